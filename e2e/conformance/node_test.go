// SPDX-License-Identifier: Apache-2.0

package conformance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/e2e/conformance"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest/quirk"
)

// kit runs the command and returns what it found out, and its exit status.
func kit(t *testing.T, pf libsriov.Address, more ...string) (r conformance.Report, status int, said string) {
	t.Helper()
	sriov, err := exec.LookPath("sriov")
	require.NoError(t, err)
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("sriov-conformance", append([]string{"-pf", pf.String(), "-plugin", sriov, "-kills", "3"}, more...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	t.Logf("%s\n%s", strings.Join(cmd.Args, " "), &stderr)
	if stdout.Len() > 0 {
		require.NoError(t, json.Unmarshal(stdout.Bytes(), &r), "%s", &stdout)
	}
	return r, cmd.ProcessState.ExitCode(), stderr.String()
}

// pfOf is the first PF with a driver, without VFs and with its interface down.
func pfOf(t *testing.T, driver string) libsriov.Address {
	t.Helper()
	sriovtest.NeedNode(t)
	h, err := libsriov.Open("/")
	require.NoError(t, err)
	s, err := h.Snapshot()
	require.NoError(t, err)
	for _, pf := range s.PFs {
		if pf.Driver == driver {
			require.Zero(t, pf.NumVFs)
			require.NoError(t, exec.Command("ip", "link", "set", pf.Netdevs[0], "down").Run())
			return pf.Address
		}
	}
	t.Fatalf("no PF has the driver %s", driver)
	return libsriov.Address{}
}

// checks are the names of those that ended so.
func checks(r conformance.Report, v conformance.Verdict) (names []string) {
	for _, c := range r.Checks {
		if c.Verdict == v {
			names = append(names, c.Name)
		}
	}
	return names
}

// tree is everything that a run may change for good; links come and go by themselves.
func tree(t *testing.T, pf libsriov.Address) string {
	t.Helper()
	var b strings.Builder
	for _, name := range []string{"sriov_numvfs", "sriov_drivers_autoprobe", "sriov_totalvfs"} {
		text, err := os.ReadFile(filepath.Join("/sys/bus/pci/devices", pf.String(), name))
		require.NoError(t, err)
		b.WriteString(name + " " + string(text))
	}
	out, err := exec.Command("sh", "-c", `ip -br link | sed -E 's/ +(UP|DOWN|UNKNOWN) +/ /; s/NO-CARRIER,|,LOWER_UP//g'`+"; ip netns list; find /var/lib/cni/sriov -type f ! -name '*.lock' 2>/dev/null || true").CombinedOutput()
	require.NoError(t, err)
	return b.String() + string(out)
}

// enforced makes the emulated 82576 drop what its own spoof check lets pass.
var enforced = quirk.Settings{"pf_enforces": "spoofchk"}

// TestNodeConformance runs the kit on every kind of NIC that the node has.
func TestNodeConformance(t *testing.T) {
	sriovtest.NeedNode(t)
	for name, tc := range map[string]struct {
		driver, profile string
		refused         []string
		failed          []string
	}{
		"igb":   {driver: "igb", profile: quirk.Plain, refused: []string{"setting: 802.1ad", "setting: min rate", "setting: link state", "setting: RSS query"}},
		"ice":   {driver: "igb", profile: "iavf-ice", refused: []string{"setting: RSS query"}},
		"i40e":  {driver: "igb", profile: "iavf-i40e", refused: []string{"setting: 802.1ad", "setting: min rate", "setting: RSS query"}},
		"ixgbe": {driver: "igb", profile: "ixgbevf", refused: []string{"setting: 802.1ad", "setting: min rate"}},
		"qede":  {driver: "igb", profile: "qede", refused: []string{"setting: 802.1ad", "setting: RSS query"}, failed: []string{"setting: VLAN priority"}},
		"virtio": {driver: "virtio-pci", profile: quirk.Plain, refused: []string{
			"reports of VFs", "VLANs keep VFs apart", "spoof check drops frames", "setting: MAC", "setting: VLAN", "setting: VLAN priority",
			"setting: 802.1ad", "setting: spoof check off", "setting: spoof check on", "setting: trust", "setting: max rate",
			"setting: min rate", "setting: link state", "setting: RSS query", "trust",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			pf := pfOf(t, tc.driver)
			quirk.Use(t, tc.profile)
			quirk.Set(t, enforced)
			before := tree(t, pf)
			more := []string{"-yes"}
			if tc.failed != nil { // it waits in vain
				more = append(more, "-patience", "4s")
			}
			if tc.profile != quirk.Plain { // VFs come and go as igb's; sriov-cni's suite has kills on each profile
				more = append(more, "-only", "^(reports|setting|VLANs|spoof|trust|MTU|moves|vfio|plugin: (ADD|DEL after the namespace))")
			}
			r, status, _ := kit(t, pf, more...)
			require.Equal(t, tc.refused, checks(r, conformance.Refused))
			require.Equal(t, tc.failed, checks(r, conformance.Fail))
			require.Empty(t, checks(r, conformance.Skipped))
			require.True(t, r.Restored)
			require.Equal(t, before, tree(t, pf))
			require.Equal(t, tc.failed != nil, status != 0)
			t.Log("row: " + r.Row)
		})
	}
}

// TestNodeConformanceBrokenDriver breaks the driver, each time in another way, which the
// kit has to notice. Ways that do not hide each other share a run.
func TestNodeConformanceBrokenDriver(t *testing.T) {
	sriovtest.NeedNode(t)
	for name, tc := range map[string]struct {
		broken quirk.Settings
		failed []string
	}{
		"a VLAN and a spoof check that are reported and not in force": {
			quirk.Settings{"pf_pretends": "vlan,spoofchk"}, []string{"VLANs keep VFs apart", "spoof check drops frames"}},
		"a MAC and a rate that are accepted and forgotten": {
			quirk.Settings{"pf_ignores": "mac,max_rate"}, []string{"setting: MAC", "setting: max rate"}},
		"a VLAN, trust and a rate that stay": {
			quirk.Settings{"pf_keeps": "vlan,trust,max_rate"}, []string{"setting: VLAN", "setting: trust", "setting: max rate"}},
		"a spoof check that is not there": {quirk.Settings{"pf_enforces": ""}, []string{"spoof check drops frames"}},
		"VFs that are left out of the report": {
			quirk.Settings{"pf_resets": "mac", "pf_reset_ms": "60000", "pf_report_errno": "2"}, []string{"setting: MAC"}},
	} {
		t.Run(name, func(t *testing.T) {
			pf := pfOf(t, "igb")
			quirk.Set(t, enforced)
			quirk.Set(t, tc.broken)
			only := "^(" + strings.Join(tc.failed, "|") + ")$"
			r, status, _ := kit(t, pf, "-yes", "-only", only, "-patience", "1s")
			require.Equal(t, 1, status)
			require.Equal(t, conformance.Fail, r.Verdict)
			require.Equal(t, tc.failed, checks(r, conformance.Fail))
			require.True(t, r.Restored)
			require.Contains(t, r.Row, "| "+strings.Join(tc.failed, ", ")+" |")
		})
	}
}

// TestNodeConformanceRefuses wants nothing touched.
func TestNodeConformanceRefuses(t *testing.T) {
	pf := pfOf(t, "igb")
	h, err := libsriov.Open("/")
	require.NoError(t, err)
	f, err := h.Function(pf)
	require.NoError(t, err)
	name := f.Netdevs[0]
	ip := func(args ...string) {
		out, err := exec.Command("ip", args...).CombinedOutput()
		require.NoError(t, err, "ip %s: %s", strings.Join(args, " "), out)
	}
	var other *os.File
	for why, tc := range map[string]struct {
		before, after func()
		want          string
	}{
		"without -yes": {func() {}, func() {}, "Nothing was touched"},
		"VFs": {func() {
			ip("link", "set", name, "up")
			require.NoError(t, h.SetNumVFs(t.Context(), pf, 1))
		}, func() {
			require.NoError(t, h.SetNumVFs(t.Context(), pf, 0))
		}, "has 1 VFs, which pods"},
		"default route": {func() {
			ip("link", "set", name, "up")
			ip("addr", "add", "192.0.2.1/24", "dev", name)
			ip("route", "add", "default", "via", "192.0.2.2", "dev", name, "metric", "77")
		}, func() { ip("addr", "flush", "dev", name) }, "carries the default route"},
		"default route by a bridge": {func() {
			ip("link", "add", "br9", "type", "bridge")
			ip("link", "set", "br9", "up")
			ip("link", "set", name, "master", "br9", "up")
			ip("-6", "addr", "add", "2001:db8::1/64", "dev", "br9", "nodad")
			ip("-6", "route", "add", "default", "via", "2001:db8::2", "dev", "br9", "metric", "77")
		}, func() { ip("link", "del", "br9") }, "carries the default route: interface br9"},
		"bridge": {func() {
			ip("link", "add", "br9", "type", "bridge")
			ip("link", "set", name, "master", "br9", "up")
		}, func() { ip("link", "del", "br9") }, "is in a bridge or bond"},
		"address": {func() { ip("addr", "add", "192.0.2.1/24", "dev", name) }, func() { ip("addr", "flush", "dev", name) }, "has the address 192.0.2.1/24"},
		"VLAN":    {func() { ip("link", "add", "link", name, "name", "v9", "type", "vlan", "id", "9") }, func() { ip("link", "del", "v9") }, "interface v9 stands on"},
		"operator": {func() {
			require.NoError(t, os.MkdirAll("/etc/sriov-operator/pci", 0o755))
			require.NoError(t, os.WriteFile("/etc/sriov-operator/pci/"+pf.String(), nil, 0o644))
		}, func() { require.NoError(t, os.Remove("/etc/sriov-operator/pci/"+pf.String())) }, "is configured by the SR-IOV operator"},
		"autoprobe": {func() { require.NoError(t, h.SetAutoprobe(t.Context(), pf, false)) }, func() {
			require.NoError(t, h.SetAutoprobe(t.Context(), pf, true))
		}, "sriov_drivers_autoprobe is 0"},
		"another run": {func() {
			dir, err := os.Open("/sys/bus/pci/devices/" + pf.String())
			require.NoError(t, err)
			require.NoError(t, unix.Flock(int(dir.Fd()), unix.LOCK_EX))
			other = dir
		}, func() { other.Close() }, "another sriov-conformance tries PF"},
	} {
		t.Run(why, func(t *testing.T) {
			tc.before()
			defer tc.after()
			before := tree(t, pf)
			args := []string{"-yes"}
			if why == "without -yes" {
				args = nil
			}
			r, status, said := kit(t, pf, args...)
			require.Equal(t, 2, status)
			require.Empty(t, r.Checks)
			require.Contains(t, said, tc.want)
			require.Equal(t, before, tree(t, pf))
		})
	}
	before := tree(t, pf)
	for want, args := range map[string][]string{
		"-only is \"frob\", which is no part of any check's name": {"-yes", "-only", "frob"},
		"-patience is 0s":                           {"-yes", "-patience", "0s"},
		"-vfs is 1":                                 {"-yes", "-vfs", "1"},
		"can have 7 VFs, and 8 are asked for":       {"-yes", "-vfs", "8"},
		"-o: open /no/such/file: no such":           {"-yes", "-o", "/no/such/file"},
		"without -pf the command lists the PFs":     {"-yes", "-pf", "0000:ff:00.0"},
		"unexpected argument \"frob\"":              {"-yes", "frob"},
		"-plugin: /tmp is not a program":            {"-yes", "-plugin", "/tmp"},
		"-only: error parsing regexp: missing argu": {"-yes", "-only", "*"},
	} {
		_, status, said := kit(t, pf, args...)
		require.Equal(t, 2, status, args)
		require.Contains(t, said, want)
	}
	out, err := exec.Command("unshare", "-m", "sh", "-ec", "mount -o remount,bind,ro /sys; exec sriov-conformance -yes -pf "+pf.String()).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "cannot be written: read-only file system; a container has to be privileged")
	require.Equal(t, before, tree(t, pf))
}
