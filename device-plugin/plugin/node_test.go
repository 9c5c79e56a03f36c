// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sriovkit/sriovkit/device-plugin/internal/kubelettest"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/stretchr/testify/require"
)

// realNode is a node on the running kernel, which has to tell by itself what
// changes: the next periodic look is hours away.
func realNode(t *testing.T, pools ...string) *node {
	t.Helper()
	n := newNode(t, true, pools...)
	n.options.SysfsRoot, n.options.DevRoot, n.options.Captured = "/", "/", false
	n.options.Rescan = time.Hour
	return n
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	require.NoError(t, err, "ip %s: %s", strings.Join(args, " "), out)
}

func rootDevice(pf libsriov.Address) string { return fmt.Sprintf(`"rootDevices": [%q]`, pf) }

func addresses(vfs []libsriov.VF) (ids []string) {
	for _, vf := range vfs {
		ids = append(ids, vf.Address.String())
	}
	return ids
}

func TestNodeVFsComeAndGo(t *testing.T) {
	h, pfs := sriovtest.NodePFs(t)
	pf := pfs[0].Address
	n := realNode(t, pool("a", rootDevice(pf)+`, "drivers": ["igbvf"]`), pool("b", rootDevice(pf)+`, "drivers": ["vfio-pci"]`))
	k := n.kubelet()
	n.start()
	k.AwaitDevices(a)
	since := sinceLastEvent(t)
	require.NoError(t, h.SetNumVFs(t.Context(), pf, 3))
	k.AwaitCount(a, 3)
	t.Logf("3 VFs seen by kubelet %s after the kernel's last event about them", since())
	full, err := h.PF(pf)
	require.NoError(t, err)
	ids := addresses(full.VFs)
	k.AwaitDevices(a, ids...)

	require.NoError(t, h.BindDriver(t.Context(), full.VFs[1].Address, "vfio-pci"))
	k.AwaitDevices(b, ids[1])
	t.Logf("rebound VF in its new pool %s after the kernel's last event about it", since())
	k.AwaitDevices(a, ids[0], ids[2])
	r, err := k.Allocate(b, ids[1])
	require.NoError(t, err)
	require.Len(t, r.Devices, 2)
	require.Equal(t, "/dev/vfio/vfio", r.Devices[0].HostPath)
	for _, d := range r.Devices {
		_, err := exec.Command("test", "-c", d.HostPath).Output()
		require.NoError(t, err, "%s is a device node", d.HostPath)
	}
	k.Hold(b, ids[1])

	require.NoError(t, h.SetNumVFs(t.Context(), pf, 0))
	k.AwaitDevices(a)
	k.AwaitDevices(b, ids[1]+"!")
}

// sinceLastEvent measures how long ago the kernel last told of a PCI function
// or an interface.
func sinceLastEvent(t *testing.T) func() time.Duration {
	t.Helper()
	events, err := event.OpenDevices()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, events.Close()) })
	var last atomic.Pointer[time.Time]
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			e, err := events.Next(ctx)
			if err != nil {
				return
			}
			if e.Subsystem == "pci" || e.Subsystem == "net" {
				last.Store(new(time.Now()))
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return func() time.Duration { return time.Since(*last.Load()).Round(time.Millisecond) }
}

func TestNodeInterfaceInAPod(t *testing.T) {
	h, pf := sriovtest.NodeVFs(t, 2)
	n := realNode(t, pool("a", rootDevice(pf.Address)+`, "linkTypes": ["ether"]`))
	k := n.kubelet()
	n.start()
	ids := addresses(pf.VFs)
	k.AwaitDevices(a, ids...)
	netdevs, err := h.Function(pf.VFs[0].Address)
	require.NoError(t, err)
	require.NotEmpty(t, netdevs.Netdevs)
	ip(t, "netns", "add", "pod")
	t.Cleanup(func() { ip(t, "netns", "del", "pod") })
	ip(t, "link", "set", netdevs.Netdevs[0], "netns", "pod")
	n.restart(k, ids) // also for a plugin that has not seen it before
	require.Equal(t, 1, k.Lists(a))
}

// restart stops the plugin and starts another one, which must offer the same.
func (n *node) restart(k *kubelettest.Kubelet, ids []string) {
	n.t.Helper()
	require.NoError(n.t, n.stop())
	k.AwaitDevices(a)
	n.start()
	k.AwaitDevices(a, ids...)
}

func TestNodeCarrier(t *testing.T) {
	h, pf := sriovtest.NodeVFs(t, 1)
	n := realNode(t, pool("a", rootDevice(pf.Address), `"linkHealth": true`))
	k := n.kubelet()
	n.start()
	id := pf.VFs[0].Address.String()
	k.AwaitDevices(a, id)
	uplink, err := h.Uplink(pf.Function)
	require.NoError(t, err)
	ip(t, "link", "set", uplink, "down")
	k.AwaitDevices(a, id+"!")
	ip(t, "link", "set", uplink, "up")
	k.AwaitDevices(a, id)
}

func TestNodeDefaultRoute(t *testing.T) {
	h, pfs := sriovtest.NodePFs(t)
	require.GreaterOrEqual(t, len(pfs), 2)
	first, err := h.Uplink(pfs[0].Function)
	require.NoError(t, err)
	var idle []string
	for _, pf := range pfs {
		idle = append(idle, pf.Address.String())
	}
	n := realNode(t, pool("a", `"drivers": ["igb"]`, `"includePFs": true`))
	k := n.kubelet()
	n.start()
	k.AwaitDevices(a, idle...)
	rest := idle[1:]
	for name, setUp := range map[string]func(dev string) (undo func()){
		"IPv4": func(dev string) func() {
			ip(t, "addr", "add", "192.0.2.1/24", "dev", dev)
			ip(t, "route", "add", "default", "via", "192.0.2.2", "dev", dev)
			return func() { ip(t, "addr", "flush", "dev", dev) }
		},
		"IPv6": func(dev string) func() {
			ip(t, "-6", "route", "add", "default", "via", "fe80::1", "dev", dev)
			return func() { ip(t, "-6", "route", "del", "default", "dev", dev) }
		},
		"IPv6 on a VLAN": func(dev string) func() {
			ip(t, "link", "add", "link", dev, "name", "tagged", "type", "vlan", "id", "7")
			ip(t, "link", "set", "tagged", "up")
			ip(t, "-6", "route", "add", "default", "dev", "tagged")
			return func() { ip(t, "link", "del", "tagged") }
		},
		"bridge": func(dev string) func() {
			ip(t, "link", "add", "br9", "type", "bridge")
			ip(t, "link", "set", dev, "master", "br9")
			ip(t, "link", "set", "br9", "up")
			ip(t, "addr", "add", "192.0.2.1/24", "dev", "br9")
			ip(t, "route", "add", "default", "via", "192.0.2.2", "dev", "br9")
			return func() { ip(t, "link", "del", "br9") }
		},
		"bond": func(dev string) func() {
			ip(t, "link", "add", "bond9", "type", "bond", "mode", "active-backup")
			ip(t, "link", "set", dev, "down")
			ip(t, "link", "set", dev, "master", "bond9")
			ip(t, "link", "set", "bond9", "up")
			ip(t, "addr", "add", "192.0.2.1/24", "dev", "bond9")
			ip(t, "route", "add", "default", "via", "192.0.2.2", "dev", "bond9")
			return func() {
				ip(t, "link", "del", "bond9")
				ip(t, "link", "set", dev, "up")
			}
		},
	} {
		t.Run(name, func(*testing.T) {
			undo := setUp(first)
			k.AwaitDevices(a, rest...) // the kernel tells
			undo()
			k.AwaitDevices(a, idle...)
		})
	}
}

func TestNodeScrape(t *testing.T) {
	_, pf := sriovtest.NodeVFs(t, 2)
	n := realNode(t, pool("a", rootDevice(pf.Address)))
	k := n.kubelet()
	n.start()
	k.AwaitCount(a, 2)
	require.Equal(t, 2, testutil.CollectAndCount(n.plugin.Traffic(), "sriov_vf_rx_bytes"))
	problems, err := testutil.CollectAndLint(n.plugin.Traffic(), "sriov_vf_rx_bytes")
	require.NoError(t, err)
	require.NotEmpty(t, problems, "the established names lack _total")
}
