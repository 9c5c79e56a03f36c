// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/vm"
)

// TestNodePower pulls a node's cable and cuts its power. The node has no IOMMU, and the NIC of
// a virtual machine.
func TestNodePower(t *testing.T) {
	t.Parallel()
	v := boot(t, vm.Config{Name: "power", NoIOMMU: true, VirtualNICs: 1, Modules: []string{"virtio_net"}})
	require.Empty(t, output(t, v, "ls /sys/kernel/iommu_groups"))
	require.NotEmpty(t, output(t, v, "ls /sys/bus/pci/devices/0000:00:10.0/virtio*/net"))

	output(t, v, "ip link set $(ls /sys/bus/pci/devices/0000:02:00.0/net) up")
	carrier := func(want string) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			out, err := v.Output(t.Context(), "sh", "-ec", "cat /sys/bus/pci/devices/0000:02:00.0/net/*/carrier")
			require.NoError(c, err)
			require.Equal(c, want, strings.TrimSpace(out))
		}, 5*time.Minute, 100*time.Millisecond)
	}
	carrier("1")
	require.NoError(t, v.SetLink(1, false))
	carrier("0")
	require.NoError(t, v.SetLink(1, true))
	carrier("1")
	require.ErrorContains(t, v.SetLink(7, true), "nic7")

	for range 2 {
		output(t, v, "echo kept >>/root/file; touch /run/lost")
		boot := output(t, v, "cat /proc/sys/kernel/random/boot_id")
		require.NoError(t, v.PowerCycle(t.Context()))
		require.NotEqual(t, boot, output(t, v, "cat /proc/sys/kernel/random/boot_id"))
		require.Contains(t, output(t, v, "cat /root/file"), "kept")
		output(t, v, "test ! -e /run/lost")
	}
	require.Equal(t, "kept\nkept", output(t, v, "cat /root/file"))

	text, err := v.Stuck(t.Context())
	require.NoError(t, err)
	require.Contains(t, text, "Show Blocked State", "of the kernel, on the console")

	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = v.Output(short, "sh", "-c", "kill -STOP $PPID; sleep 1000") // the agent
	require.ErrorIs(t, err, context.DeadlineExceeded)
	text, err = v.Stuck(short)
	require.ErrorIs(t, err, vm.ErrFrozen)
	require.Contains(t, text, "VM status: running")
	require.Regexp(t, `(?s)CPU#0\s.*RIP=.*HLT=[01].*\nISR\s+\(none\)`, text, "what tells a dead processor")
	require.Contains(t, text, "wchan=")
	require.Contains(t, text, "NMI", "the kernel still runs and says where it was")
	_, err = v.Output(t.Context(), "true")
	require.ErrorContains(t, err, "Kernel panic", "and has ended by it")
}
