// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
)

// TestClusterVFIO gives pods devices with a userspace driver, at the same time on a node
// that has an IOMMU and on one that has none.
func TestClusterVFIO(t *testing.T) {
	newEnv(t)
	t.Run("IOMMU", func(t *testing.T) {
		t.Parallel()
		withIOMMU(newEnv(t))
	})
	t.Run("NoIOMMU", func(t *testing.T) {
		t.Parallel()
		withoutIOMMU(newEnv(t))
	})
}

// withIOMMU gives a pod the device node of its VF's IOMMU group, and no interface.
func withIOMMU(e *env) {
	e.run(pod{name: "driver", networks: "dpdk", resource: "openshift.io/dpdk"})
	vf := e.device("driver", "openshift.io/dpdk")
	group := e.node(fmt.Sprintf("basename $(readlink /sys/bus/pci/devices/%s/iommu_group)", vf))
	assert.Equal(e, "vfio-pci", e.node(fmt.Sprintf("basename $(readlink /sys/bus/pci/devices/%s/driver)", vf)))
	e.exec("driver", "test", "-c", "/dev/vfio/vfio")
	e.exec("driver", "test", "-c", "/dev/vfio/"+group)
	assert.NotContains(e, e.exec("driver", "ip", "link"), "net1")
}

// withoutIOMMU asks a node without an IOMMU for vfio. A VF of its own PF is refused, with
// reason and remedy on the node's state, and keeps its driver. A function of a virtual
// machine, as clouds have them, is given by vfio's no-IOMMU mode, which the daemon switches
// on: a pod that may do raw I/O opens it.
func withoutIOMMU(e *env) {
	const function = "/sys/bus/pci/devices/0000:00:11.0"
	const mode = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
	state := func(path string) string {
		return e.get("sriovnetworknodestate", "node2", "-n", component.Namespace, "-o", "jsonpath={.status."+path+"}")
	}
	require.Equal(e, "N", e.on(1, "cat "+mode))
	e.apply(policy("refused", "node2", "0000:02:00.0", 1, "vfio-pci") + policy("bare", "node2", "0000:00:11.0", 1, "vfio-pci"))
	e.Cleanup(func() {
		e.kubectl("delete", "-n", component.Namespace, "sriovnetworknodepolicy/refused-node2", "sriovnetworknodepolicy/bare-node2")
		e.until("the node is well again", func() bool { return state("syncStatus") == "Succeeded" })
		assert.Equal(e, "virtio-pci", e.on(1, "basename $(readlink "+function+"/driver)"))
		e.on(1, "echo N >"+mode)
	})
	e.allocatable("node2", "openshift.io/bare", "1")
	const reason = "vfio-pci needs an IOMMU and 0000:02:10.0 is in no IOMMU group"
	e.until(reason, func() bool { return strings.Contains(state("lastSyncError"), reason) })
	assert.Equal(e, "igbvf", e.on(1, "basename $(readlink /sys/bus/pci/devices/0000:02:10.0/driver)"))

	e.run(pod{name: "raw", resource: "openshift.io/bare", node: "node2", capability: "SYS_RAWIO"})
	assert.Equal(e, "vfio-pci", e.on(1, "basename $(readlink "+function+"/driver)"))
	group := e.on(1, "basename $(readlink "+function+"/iommu_group)")
	e.on(1, "test -c /dev/vfio/noiommu-"+group)
	e.exec("raw", "sh", "-c", "exec 3<>/dev/vfio/vfio 4<>/dev/vfio/"+group)
}

// pools of the device plugin alone: names with prefixes of their own, selectors by
// vendor, device, driver, PF and range of VFs, and health by the PF's link. The
// PF's alternative name is third.
const pools = `
apiVersion: v1
kind: ConfigMap
metadata: {name: sriovdp, namespace: kube-system}
data:
  config.json: |
    {"resourceList": [
      {"resourceName": "linked", "resourcePrefix": "acme.org", "linkHealth": true,
       "selectors": {"vendors": ["8086"], "devices": ["10ca"], "drivers": ["igbvf"], "pfNames": ["third#0-1"]}},
      {"resourceName": "last", "selectors": {"drivers": ["igbvf"], "rootDevices": ["0000:03:00.0#2"]}},
      {"resourceName": "user", "selectors": [{"drivers": ["vfio-pci"], "rootDevices": ["0000:03:00.0"]}]}
    ]}
`

// TestClusterDevicePlugin installs the device plugin with its own manifest, without
// privileges and beside the operator's: VFs come, change driver and go, a cable is
// pulled, and kubelet's figures and pods follow.
func TestClusterDevicePlugin(t *testing.T) {
	e := newEnv(t)
	checkout, err := component.Checkout(e.ctx)
	require.NoError(t, err)
	manifest, err := os.ReadFile(filepath.Join(checkout, "device-plugin/deploy/daemonset.yaml"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(manifest), "\n---\n")
	require.True(t, found, "a ConfigMap, then the rest")
	e.apply(pools + "---\n" + rest)
	e.Cleanup(func() {
		e.kubectl("delete", "--ignore-not-found", "-n", "kube-system", "daemonset/sriovdp", "configmap/sriovdp")
		e.node("echo 0 >/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs; ip link property del dev third altname third || true")
	})
	e.kubectl("-n", "kube-system", "rollout", "status", "daemonset/sriovdp", "--timeout="+patience.String())
	e.allocatable("node1", "acme.org/linked", "0")
	pf := func(script string) string { return e.node("cd /sys/bus/pci/devices/0000:03:00.0\n" + script) }
	pf("ip link property add dev $(ls net) altname third; ip link set third up; echo 3 >sriov_numvfs")
	vfs := strings.Fields(pf("for i in 0 1 2; do basename $(readlink virtfn$i); done"))
	e.allocatable("node1", "acme.org/linked", "2")
	e.allocatable("node1", "example.com/last", "1")

	// The third VF is what the range says; its device-info file is what the spec says.
	e.run(pod{name: "third", resource: "example.com/last"})
	require.Equal(t, vfs[2], e.device("third", "example.com/last"))
	assert.JSONEq(t, `{"type":"pci","version":"1.1.0","pci":{"pci-address":"`+vfs[2]+`","pf-pci-address":"0000:03:00.0"}}`,
		e.node("cat /var/run/k8s.cni.cncf.io/devinfo/dp/example.com-last-"+vfs[2]+"-device.json"))

	// Without a link, VFs of a pool that cares are for nobody.
	require.NoError(t, e.Nodes[0].SetLink(2, false))
	e.Cleanup(func() { require.NoError(t, e.Nodes[0].SetLink(2, true)) })
	e.allocatable("node1", "acme.org/linked", "0")
	assert.Equal(t, "2", e.get("node", "node1", "-o", `jsonpath={.status.capacity.acme\.org/linked}`), "they are there, unhealthy")
	assert.Equal(t, "1", e.get("node", "node1", "-o", `jsonpath={.status.allocatable.example\.com/last}`), "the other pool does not care")
	require.NoError(t, e.Nodes[0].SetLink(2, true))
	e.allocatable("node1", "acme.org/linked", "2")

	// A free VF changes its driver, and so its pool.
	pf("echo vfio-pci >virtfn1/driver_override; echo " + vfs[1] + " >virtfn1/driver/unbind; echo " + vfs[1] + " >/sys/bus/pci/drivers_probe")
	e.allocatable("node1", "example.com/user", "1")
	e.allocatable("node1", "acme.org/linked", "1")
	e.run(pod{name: "user", resource: "example.com/user"})
	require.Equal(t, vfs[1], e.device("user", "example.com/user"))
	e.exec("user", "test", "-c", "/dev/vfio/"+pf("basename $(readlink virtfn1/iommu_group)"))
	e.kubectl("delete", "pod", "user")

	// All VFs go. The one in use is for nobody else, and forgotten with its pod.
	pf("echo 0 >sriov_numvfs")
	for _, resource := range []string{"acme.org/linked", "example.com/last", "example.com/user"} {
		e.allocatable("node1", resource, "0")
	}
	capacity := func() string { return e.get("node", "node1", "-o", `jsonpath={.status.capacity.example\.com/last}`) }
	require.Equal(t, "1", capacity(), "the device in use counts, unhealthy")
	e.kubectl("delete", "pod", "third")
	e.until("the device is forgotten", func() bool { return capacity() == "0" })
}

// TestClusterVirtual treats a node as the virtual machine it could be: of its virtio
// functions no PF is in sight. A policy finds one and a pod gets it as an interface
// that reaches a VF of the other node. (Emulated VFs cannot be handed on to a nested
// machine: QEMU's igb has none without its PF.)
func TestClusterVirtual(t *testing.T) {
	e := newEnv(t)
	e.apply(policy("virtual", "node2", "0000:00:10.0", 1, "netdevice") + network("virtual", "virtual", 0, 4) + network("untagged", "nics", 0, 5))
	e.Cleanup(func() {
		e.kubectl("delete", "-n", "sriov-network-operator", "sriovnetwork/virtual", "sriovnetwork/untagged", "sriovnetworknodepolicy/virtual-node2")
	})
	e.allocatable("node2", "openshift.io/virtual", "1")
	e.run(pod{name: "guest", networks: "virtual", resource: "openshift.io/virtual", node: "node2"},
		pod{name: "peer", networks: "untagged", resource: "openshift.io/nics"})
	assert.Equal(t, "0000:00:10.0", e.device("guest", "openshift.io/virtual"))
	assert.Contains(t, e.exec("guest", "ping", "-c2", "-W5", e.address("peer")), " 0% packet loss")
	e.kubectl("delete", "pod", "guest", "peer")
	e.until("the function is back", func() bool { return e.on(1, "ls /sys/bus/pci/devices/0000:00:10.0/virtio*/net || true") != "" })
}
