// SPDX-License-Identifier: Apache-2.0

package dra_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/cluster"
	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

// bindDrivers lets the driver bind VFs to drivers that claims ask for, as the documentation
// says.
const bindDrivers = `[
	{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--bind-drivers"},
	{"op": "add", "path": "/spec/template/spec/containers/0/volumeMounts/-", "value": {"name": "sys", "mountPath": "/sys"}},
	{"op": "add", "path": "/spec/template/spec/volumes/-", "value": {"name": "sys", "hostPath": {"path": "/sys"}}}]`

// TestLongDRASamples has pods for all samples of the documentation run on a node with two root
// complexes and two NUMA nodes, with two PFs at each, beside a driver of other hardware: what
// TestSamples has scheduled is then prepared and attached.
func TestLongDRASamples(t *testing.T) {
	cluster.NeedLong(t)
	ctx := context.WithoutCancel(t.Context())
	k, err := cluster.Start(ctx, cluster.Config{Nodes: []vm.Config{{NUMA: true, PFs: 4}}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, k.Close()) })
	e := &env{T: t, ControlPlane: k.ControlPlane}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := k.Kubectl(ctx, nil, "describe", "pods")
			t.Log(out, k.SaveLogs(ctx))
		}
	})
	node := func(script string) string {
		t.Helper()
		out, err := k.Nodes[0].Output(ctx, "sh", "-ec", script)
		require.NoError(t, err)
		return strings.TrimSpace(out)
	}
	exec := func(pod string, args ...string) string {
		t.Helper()
		return strings.TrimSpace(e.kubectl("", append([]string{"exec", pod, "--"}, args...)...))
	}
	e.installDRA(ctx, k)
	// The first two PFs are not below one root complex.
	node(`set -- pf0 pf2 pf1 pf3; for pf in /sys/bus/pci/devices/*/sriov_numvfs; do cd ${pf%/*}
		ip link set $(ls net) down name $1; ip link set $1 up; echo 4 >sriov_numvfs; shift; done`)
	e.kubectl("", "label", "node", "node1", "sriovkit.io/resource-mode=dra")
	slices := e.slices("node1", 16)
	pods := e.applySamples("node1", cluster.BusyboxImage)
	got := e.checkSamples(pods, slices)
	for _, pod := range pods {
		e.kubectl("", "wait", "--for=condition=Ready", "--timeout="+patience.String(), "pod/"+pod)
	}

	interfaces := map[string][]string{"two-vfs": {"net1", "net2"}, "two-at-a-numa-node": {"net1", "net2"}, "intel-vf": {"net7"}, "vf-for-dpdk": nil}
	for _, pod := range pods {
		var want []string
		for _, d := range got[pod] {
			if d.Driver == driver {
				want = append(want, address(d.Device))
			}
		}
		require.Equal(t, strings.Join(want, ","), exec(pod, "sh", "-c", "echo $PCIDEVICE_EXAMPLE_COM_VFS"), pod)
		names, known := interfaces[pod]
		if !known {
			names = []string{"net1"}
		}
		for i, name := range names {
			require.Equal(t, want[i], filepath.Base(exec(pod, "readlink", "/sys/class/net/"+name+"/device")), "%s: devices are attached in their order", pod)
		}
		require.Equal(t, len(names)+2, len(strings.Fields(exec(pod, "ls", "/sys/class/net"))), "%s has lo, eth0 and %s", pod, names)
	}
	require.Equal(t, "gpu-0", exec("vf-and-gpu", "sh", "-c", "echo $FOREIGN"), "the other driver has prepared its device")
	require.Empty(t, exec("two-vfs", "sh", "-c", "echo $FOREIGN"))

	t.Log("a VF that its claim has bound to vfio-pci, and gets back")
	vf := address(got["vf-for-dpdk"][0].Device)
	bound := func() string { return node("basename $(readlink /sys/bus/pci/devices/" + vf + "/driver)") }
	require.Equal(t, "vfio-pci", bound())
	exec("vf-for-dpdk", "test", "-c", "/dev/vfio/"+node("basename $(readlink /sys/bus/pci/devices/"+vf+"/iommu_group)"))

	e.kubectl("", "delete", "pods", "--all", "--timeout="+patience.String())
	require.Equal(t, "igbvf", bound())
	require.Len(t, strings.Fields(node("ls -d /sys/bus/pci/devices/*/virtfn*/net/*")), 16, "all are back")
	require.Empty(t, node(`ls /var/lib/kubelet/plugins/sriovnetwork.k8snetworkplumbingwg.io/claims /var/run/cdi | grep -E '^[0-9a-f]{8}-.*json|_claim_|_metadata_' || true`))
}

// address is that of a device with a name.
func address(device string) string {
	parts := strings.Split(device, "-")
	return fmt.Sprintf("%s:%s:%s.%s", parts[0], parts[1], parts[2], parts[3])
}

// installDRA installs what pods need to have VFs by claims by the components' own manifests,
// and a driver of other hardware.
func (e *env) installDRA(ctx context.Context, k *cluster.Cluster) {
	e.Helper()
	checkout, err := component.Checkout(ctx)
	require.NoError(e, err)
	dir := e.TempDir()
	images := component.All[:3] // without the operator
	require.NoError(e, component.Build(ctx, checkout, dir, component.Tag, images...))
	for _, c := range images {
		require.NoError(e, k.Import(ctx, c.Archive(dir)))
	}
	require.NoError(e, component.InstallMultus(ctx, k.Kubectl, checkout))
	e.kubectl("", "apply", "-f", filepath.Join(checkout, "sriov-cni/deploy/daemonset.yaml"))
	e.kubectl("", "apply", "-k", filepath.Join(checkout, "device-plugin/deploy/dra"))
	e.kubectl("", "patch", "-n", "kube-system", "daemonset/sriovdra", "--type=json", "-p", bindDrivers)
	e.kubectl("", "-n", "kube-system", "rollout", "status", "daemonset/kube-sriov-cni-ds", "--timeout="+patience.String())

	foreign := filepath.Join(dir, "foreign")
	require.NoError(e, component.Compile(ctx, checkout, "device-plugin", "./internal/kubelettest/foreign", foreign, "linux/amd64", component.Tag))
	require.NoError(e, k.Nodes[0].Push(ctx, foreign, "/var/tmp/foreign"))
	_, err = k.Nodes[0].Output(ctx, "sh", "-ec", "setsid /var/tmp/foreign >/var/log/foreign.log 2>&1 </dev/null &")
	require.NoError(e, err)
}
