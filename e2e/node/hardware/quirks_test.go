// SPDX-License-Identifier: Apache-2.0

package hardware_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest/quirk"
)

// quirky is a PF with two VFs whose interfaces have a name.
type quirky struct {
	pf, vf0, vf1 string // interfaces
	dir          string // of the PF in sysfs
	vfs          []string
}

func newQuirky(t *testing.T) quirky {
	t.Helper()
	sriovtest.NeedNode(t)
	dir := pfs(t)[0]
	vfs := createVFs(t, dir, 2)
	return quirky{netdev(t, dir), netdev(t, vfs[0]), netdev(t, vfs[1]), dir, vfs}
}

// refused runs ip and wants the text of an error number.
func refused(t *testing.T, why string, args ...string) {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	require.Error(t, err, "ip %s", strings.Join(args, " "))
	require.Contains(t, string(out), why, "ip %s", strings.Join(args, " "))
}

func (q quirky) setVF(t *testing.T, setting ...string) {
	t.Helper()
	run(t, append([]string{"ip", "link", "set", q.pf, "vf", "0"}, setting...)...)
}

// shows is the report of a VF, empty if the list has none.
func (q quirky) shows(t *testing.T, vf string) string {
	t.Helper()
	out, _ := exec.Command("ip", "link", "show", q.pf).CombinedOutput() // fails on a truncated list
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(strings.TrimSpace(line), "vf "+vf+" ") {
			return line
		}
	}
	return ""
}

const macA, macB, macC = "02:00:00:00:aa:01", "02:00:00:00:aa:02", "02:00:00:00:aa:03"

// TestNodeQuirkProfiles sets every parameter of every profile.
func TestNodeQuirkProfiles(t *testing.T) {
	sriovtest.NeedNode(t)
	const dir = "/sys/module/sriov_quirks/parameters"
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "resetting" }) // which only tells
	for _, p := range quirk.Profiles {
		t.Run(p.Name, func(t *testing.T) {
			quirk.Use(t, p.Name)
			require.Len(t, p.Parameters(), len(entries))
			for name, value := range p.Parameters() {
				if strings.ContainsAny(value, ",") {
					require.ElementsMatch(t, strings.Split(value, ","), strings.Split(read(t, dir, name), ","), name)
				} else {
					require.Equal(t, value, read(t, dir, name), name)
				}
			}
		})
	}
	require.Error(t, os.WriteFile(filepath.Join(dir, "pf_lacks"), []byte("mac,nothing"), 0), "an unknown attribute is refused")
}

func TestNodeQuirkMACRefused(t *testing.T) {
	q := newQuirky(t)
	quirk.Set(t, quirk.Settings{"vf_mac_errno": "13"})
	run(t, "ip", "link", "set", q.vf0, "address", macB) // the PF has set none yet
	q.setVF(t, "mac", macA)
	refused(t, "Permission denied", "link", "set", q.vf0, "address", macC)
	run(t, "ip", "link", "set", q.vf1, "address", macB)
	run(t, "ip", "link", "set", q.vf0, "address", macA)
	require.Equal(t, macA, read(t, q.vfs[0], "net", q.vf0, "address"))
	quirk.Set(t, quirk.Settings{"vf_mac_errno": "22", "vf_mac_refuse_same": "1", "pf_zero_mac_errno": "22"})
	refused(t, "Invalid argument", "link", "set", q.vf0, "address", macC)
	refused(t, "Invalid argument", "link", "set", q.pf, "vf", "0", "mac", "00:00:00:00:00:00")
	quirk.Set(t, quirk.Settings{"only": filepath.Base(q.vfs[1])})
	q.setVF(t, "mac", "00:00:00:00:00:00")
	quirk.Set(t, quirk.Settings{"only": filepath.Base(q.dir), "pf_zero_mac_errno": "0"})
	q.setVF(t, "mac", macA)
	q.setVF(t, "trust", "on")
	run(t, "ip", "link", "set", q.vf0, "address", macC) // a trusted VF may
}

// TestNodeQuirkReset has resets that last much longer than what is tried during them.
func TestNodeQuirkReset(t *testing.T) {
	q := newQuirky(t)
	carrier := func() bool { return read(t, q.vfs[0], "net", q.vf0, "operstate") == "up" }
	run(t, "ip", "link", "set", q.vf0, "up")
	eventually(t, "carrier of the VF", carrier)
	run(t, "ip", "link", "set", q.vf1, "down")
	quirk.Set(t, quirk.Settings{
		"pf_resets": "mac,vlan", "vf_reset_ms": "8000", "pf_reset_ms": "6000", "vf_busy_errno": "16",
		"pf_wait_ms": "10", "pf_busy_errno": "11", "pf_report_errno": "2", "pf_push_ms": "0",
	})
	q.setVF(t, "mac", macA)
	require.NotEqual(t, macA, read(t, q.vfs[0], "net", q.vf0, "address"))
	require.Empty(t, q.shows(t, "0"), "left out of the report")
	require.NotEmpty(t, q.shows(t, "1"))
	refused(t, "Resource temporarily unavailable", "link", "set", q.pf, "vf", "0", "vlan", "5")
	refused(t, "Device or resource busy", "link", "set", q.vf0, "address", macA)
	eventually(t, "the PF is ready", func() bool { return q.shows(t, "0") != "" })
	eventually(t, "the interface shows the PF's MAC", func() bool { return read(t, q.vfs[0], "net", q.vf0, "address") == macA })
	eventually(t, "carrier after the reset", carrier)
	q.setVF(t, "mac", macB)
	run(t, "ip", "link", "set", q.vf0, "down")
	refused(t, "Device or resource busy", "link", "set", q.vf0, "up")
	eventually(t, "it opens", func() bool { return exec.Command("ip", "link", "set", q.vf0, "up").Run() == nil })
	quirk.Set(t, quirk.Settings{"pf_wait_ms": "20000", "vf_reset_ms": "300", "pf_reset_ms": "300"})
	q.setVF(t, "vlan", "5")
	q.setVF(t, "vlan", "6") // waits
	q.setVF(t, "mac", macB) // waits, and resets nothing: it is the same
	quirk.Set(t, quirk.Settings{"pf_wait_ms": "0", "pf_reset_ms": "20000"})
	q.setVF(t, "mac", macB)
	q.setVF(t, "vlan", "6")
	quirk.Set(t, quirk.Settings{"pf_reset_same_mac": "1"})
	q.setVF(t, "mac", macB)
	refused(t, "Resource temporarily unavailable", "link", "set", q.pf, "vf", "0", "vlan", "6")
}

// TestNodeQuirkPushedMACStays: what the driver of a VF was told of its MAC outlasts the
// next reset, although igb believes a trusted VF's driver.
func TestNodeQuirkPushedMACStays(t *testing.T) {
	q := newQuirky(t)
	shown := func() string { return read(t, q.vfs[0], "net", q.vf0, "address") }
	quirk.Set(t, quirk.Settings{"pf_resets": "mac,vlan,trust", "vf_mac_errno": "13", "pf_push_ms": "0"})
	q.setVF(t, "mac", macA)
	quirk.Settled(t)
	require.Equal(t, macA, shown())
	q.setVF(t, "trust", "on")
	run(t, "ip", "link", "set", q.vf0, "up")
	run(t, "ip", "link", "set", q.vf0, "down") // resets it, and igbvf tells igb its MAC
	require.Equal(t, macA, shown())
	require.Contains(t, q.shows(t, "0"), macA)
	run(t, "ip", "link", "set", q.vf0, "address", macB)
	q.setVF(t, "vlan", "5")
	quirk.Settled(t)
	require.Equal(t, macB, shown(), "a trusted VF's own choice outlasts a reset")
	require.Contains(t, q.shows(t, "0"), macB)
	q.setVF(t, "trust", "off")
	quirk.Settled(t)
	require.Equal(t, macB, shown())
}

// TestNodeQuirkSpoofCheck has a VF's foreign source addresses dropped while its spoof
// check is on; QEMU's 82576 lets them pass.
func TestNodeQuirkSpoofCheck(t *testing.T) {
	q := newQuirky(t)
	ping := connect(t, q.vfs...)
	eventually(t, "ping from VF to VF", ping)
	run(t, "ip", "netns", "exec", "traffic0", "ip", "link", "add", "link", q.vf0, "name", "mv0", "type", "macvlan")
	run(t, "ip", "-n", "traffic0", "addr", "flush", "dev", q.vf0)
	run(t, "ip", "-n", "traffic0", "addr", "add", "192.0.2.1/24", "dev", "mv0")
	run(t, "ip", "-n", "traffic0", "link", "set", "mv0", "up")
	heard := func() bool {
		return exec.CommandContext(t.Context(), "sh", "-c", "ip netns exec traffic0 ping -qc1 -W1 192.0.2.2; ip -n traffic1 neigh | grep -q $(ip netns exec traffic0 cat /sys/class/net/mv0/address)").Run() == nil
	}
	quirk.Set(t, quirk.Settings{"pf_enforces": "spoofchk"})
	require.False(t, heard(), "VF 1 has heard of an address that VF 0 has not")
	q.setVF(t, "spoofchk", "off")
	eventually(t, "a foreign address without the check", heard)
}

// TestNodeQuirkAttributes gives a VF what igb lacks and takes what it has.
func TestNodeQuirkAttributes(t *testing.T) {
	q := newQuirky(t)
	eventually(t, "carrier of the PF, without which igb has no rates", func() bool { return read(t, q.dir, "net", q.pf, "operstate") == "up" })
	refused(t, "Operation not supported", "link", "set", q.pf, "vf", "0", "state", "disable")
	quirk.Set(t, quirk.Settings{"pf_adds": "state,min_rate,802.1ad,rss"})
	q.setVF(t, "state", "disable")
	q.setVF(t, "min_tx_rate", "10", "max_tx_rate", "100")
	q.setVF(t, "vlan", "5", "qos", "3", "proto", "802.1ad")
	q.setVF(t, "query_rss", "on")
	for _, part := range []string{"link-state disable", "min_tx_rate 10Mbps", "max_tx_rate 100Mbps", "vlan 5", "qos 3", "802.1ad", "query_rss on"} {
		require.Contains(t, q.shows(t, "0"), part)
	}
	require.Contains(t, q.shows(t, "1"), "link-state auto")
	quirk.Set(t, quirk.Settings{"pf_lacks": "trust,spoofchk"})
	refused(t, "Operation not supported", "link", "set", q.pf, "vf", "0", "trust", "on")
	require.NotContains(t, q.shows(t, "0"), "spoof")
	quirk.Set(t, quirk.Settings{"pf_lacks": "", "pf_ignores": "trust", "pf_pretends": "spoofchk"})
	q.setVF(t, "trust", "on")
	q.setVF(t, "spoofchk", "off")
	require.Contains(t, q.shows(t, "0"), "trust off")
	require.Contains(t, q.shows(t, "0"), "spoof checking off")
	quirk.Set(t, quirk.Settings{"pf_pretends": ""})
	q.setVF(t, "spoofchk", "on")
	require.Contains(t, q.shows(t, "0"), "spoof checking on")

	write(t, "0", q.dir, "sriov_numvfs")
	createVFs(t, q.dir, 2)
	require.Contains(t, q.shows(t, "0"), "link-state auto", "a VF that is made anew")
}
