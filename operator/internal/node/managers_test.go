// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// unmanaged is how NetworkManager calls the state of an interface that it leaves alone.
const unmanaged = "10 (unmanaged)"

// TestNodeNetworkManagerLeavesVFs has a real udevd and NetworkManager see the VFs of a PF
// that a policy is for, and of one that none is for, which NetworkManager takes: VFs that
// are new, that an event is repeated for, and that come back from a pod.
func TestNodeNetworkManagerLeavesVFs(t *testing.T) {
	b := newBench(t)
	sh := func(script string) string {
		t.Helper()
		out, err := exec.Command("sh", "-ec", script).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return strings.TrimSpace(string(out))
	}
	startManagers(t, sh)
	p := pol("p", "nics", b.pfs[0], "", 2, "")
	require.NoError(t, b.apply(p))
	require.NoError(t, b.Host.SetNumVFs(t.Context(), b.addr(b.pfs[1]), 1))
	ours := func() []string {
		vfs := b.pf(b.pfs[0]).VFs
		return []string{vfs[0].Name, vfs[1].Name}
	}
	// taken waits for the VF that no policy is for, whose events come last.
	taken := func() {
		t.Helper()
		sh("udevadm settle")
		require.EventuallyWithT(t, func(t *assert.CollectT) {
			state := nmState(b.look(t, b.pfs[1]).VFs[0].Name)
			assert.NotEqual(t, unmanaged, state)
			assert.NotEmpty(t, state)
			for _, name := range ours() {
				assert.NotEmpty(t, nmState(name), "%s is not known yet", name)
			}
		}, patience, 200*time.Millisecond)
		for _, name := range ours() {
			require.Equal(t, unmanaged, nmState(name), name)
		}
	}
	taken()

	t.Log("an event is repeated")
	sh("udevadm trigger --action=change --subsystem-match=net")
	taken()

	t.Log("VFs come back from a pod")
	sh("ip netns add pod")
	t.Cleanup(func() { sh("ip netns delete pod") })
	for _, name := range append(ours(), b.pf(b.pfs[1]).VFs[0].Name) {
		sh("ip link set " + name + " netns pod; ip -n pod link set " + name + " netns 1")
	}
	taken()
}

// nmState is NetworkManager's, empty while it does not know the interface.
func nmState(name string) string {
	out, err := exec.Command("nmcli", "-g", "GENERAL.STATE", "device", "show", name).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// startManagers starts udevd and NetworkManager, which makes no connections of its own.
func startManagers(t *testing.T, sh func(string) string) {
	t.Helper()
	sh(`mkdir -p /etc/udev/rules.d /run/dbus /etc/NetworkManager
		printf '[main]\nno-auto-default=*\n' >/etc/NetworkManager/NetworkManager.conf
		grep -q ^messagebus: /etc/passwd || echo messagebus:x:100:100::/nonexistent:/usr/sbin/nologin >>/etc/passwd
		grep -q ^messagebus: /etc/group || echo messagebus:x:100: >>/etc/group
		dbus-uuidgen --ensure`)
	t.Cleanup(func() { sh("rm -rf /run/udev /run/NetworkManager") }) // else there seems to be an udevd that does not answer
	for _, args := range [][]string{
		{"/lib/systemd/systemd-udevd"},
		{"dbus-daemon", "--system", "--nofork", "--nopidfile"},
		{"NetworkManager", "--no-daemon"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait() // killed
		})
	}
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		out, err := exec.Command("sh", "-ec", "udevadm control --ping; nmcli -t general status").CombinedOutput()
		assert.NoError(t, err, "%s", out)
	}, patience, 200*time.Millisecond)
	sh("udevadm trigger --action=add --subsystem-match=net; udevadm settle")
}
