package features_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
)

// TestClusterDrain takes a VF away from a port of node1 whose VFs are in use: the
// pod that holds one moves to the other node, pods that hold none stay, and the
// node takes pods again afterwards.
func TestClusterDrain(t *testing.T) {
	e := newEnv(t)
	e.apply(pod{name: "mover", networks: "red", resource: "openshift.io/nics"}.deployment())
	e.Cleanup(func() { e.kubectl("delete", "deployment", "mover", "--cascade=foreground") })
	e.run(pod{name: "bystander"})
	e.kubectl("wait", "deployment/mover", "--for=condition=Available", "--timeout="+patience.String())
	on := func() string {
		return e.get("pods", "-l", "app=mover", "--field-selector=status.phase=Running", "-o", "jsonpath={.items[*].spec.nodeName}")
	}
	require.Equal(t, "node1", on())
	bystander := e.get("pod", "bystander", "-o", "jsonpath={.metadata.uid}")

	e.apply(policy("nics", "node1", "0000:01:00.0", 3, "netdevice"))
	e.Cleanup(func() { e.apply(policies) })
	e.until("three VFs", func() bool { return e.node("cat /sys/bus/pci/devices/0000:01:00.0/sriov_numvfs") == "3" })
	e.allocatable("node1", "openshift.io/nics", "3")
	e.until("the pod is on the other node", func() bool { return on() == "node2" })
	e.kubectl("wait", "deployment/mover", "--for=condition=Available", "--timeout="+patience.String())
	e.until("uncordoned", func() bool { return e.get("node", "node1", "-o", "jsonpath={.spec.unschedulable}") == "" })
	assert.Equal(t, bystander, e.get("pod", "bystander", "-o", "jsonpath={.metadata.uid}"), "a pod without a VF stays")
	assert.Equal(t, 1, strings.Count(e.on(1, "ip link show dev $(ls /sys/bus/pci/devices/0000:01:00.0/net)"), "vlan 100"))
}

// TestClusterKubeletRestart restarts the kubelet under a pod with a VF: the pod
// goes on, the resources come back, the next pod starts.
func TestClusterKubeletRestart(t *testing.T) {
	e := newEnv(t)
	e.run(pod{name: "before", networks: "red", resource: "openshift.io/nics"})
	id := e.kubectl("get", "pod", "before", "-o", "jsonpath={.status.containerStatuses[0].containerID}")
	heartbeat := func() string {
		return e.get("node", "node1", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].lastHeartbeatTime}`)
	}
	require.NoError(t, e.Nodes[0].StopKubelet(e.ctx))
	before := heartbeat()
	require.NoError(t, e.Nodes[0].StartKubelet(e.ctx))
	// Until then the API server has the figures of before, and kubelet refuses for
	// good a pod for which the device plugin is not there yet.
	e.until("the new kubelet reports", func() bool { return heartbeat() != before })
	e.allocatable("node1", "openshift.io/nics", "4")
	e.run(pod{name: "after", networks: "red", resource: "openshift.io/nics"})
	assert.Equal(t, id, e.kubectl("get", "pod", "before", "-o", "jsonpath={.status.containerStatuses[0].containerID}"))
	assert.NotEqual(t, e.device("before", "openshift.io/nics"), e.device("after", "openshift.io/nics"))
}

// TestClusterReboot cuts the power of a node with a pod on a VF. The VFs are made
// again, the pod comes back with one, and nothing is left of the first.
func TestClusterReboot(t *testing.T) {
	e := newEnv(t)
	e.apply(pod{name: "phoenix", networks: "red", resource: "openshift.io/nics"}.deployment())
	e.Cleanup(func() { e.kubectl("delete", "deployment", "phoenix", "--cascade=foreground", "--ignore-not-found") })
	e.kubectl("wait", "deployment/phoenix", "--for=condition=Available", "--timeout="+patience.String())
	e.kubectl("cordon", "node2") // or it might come back there
	e.Cleanup(func() { e.kubectl("uncordon", "node2") })
	require.Equal(t, 1, strings.Count(e.vfs(), "vlan 100"))

	require.NoError(t, e.Nodes[0].Reboot(e.ctx))
	require.Equal(t, "0", e.node("cat /sys/bus/pci/devices/0000:02:00.0/sriov_numvfs"), "the hardware has forgotten all")
	e.until("the VFs are made again", func() bool { return e.node("cat /sys/bus/pci/devices/0000:01:00.0/sriov_numvfs") == "4" })
	e.until("the pod has a VF", func() bool {
		out, err := e.Kubectl(e.ctx, nil, "exec", "deployment/phoenix", "--", "ip", "-o", "-4", "addr", "show", "net1")
		return err == nil && strings.Contains(out, "10.56.0.1")
	})
	e.kubectl("wait", "deployment/phoenix", "--for=condition=Available", "--timeout="+patience.String())
	assert.Equal(t, 1, strings.Count(e.vfs(), "vlan 100"))
	assert.Equal(t, 3, e.hostVFs())
	e.allocatable("node1", "openshift.io/dpdk", "2")

	e.kubectl("delete", "deployment", "phoenix", "--cascade=foreground")
	e.restored()
}

// TestClusterUpgrade replaces all components under a pod with a VF. At no time is
// the CNI plugin absent or half there; the pod keeps its VF and the new binaries
// give it back; new pods start.
func TestClusterUpgrade(t *testing.T) {
	e := newEnv(t)
	const next = "next"
	checkout, err := component.Checkout(e.ctx)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, component.Build(e.ctx, checkout, dir, next, component.All...))
	image := map[string]string{}
	for _, c := range component.All {
		require.NoError(t, e.Import(e.ctx, c.Archive(dir)))
		image[c.Name] = c.Reference(next)
	}
	e.run(pod{name: "old", networks: "red", resource: "openshift.io/nics"})
	id := e.get("pod", "old", "-o", "jsonpath={.status.containerStatuses[0].containerID}")
	vf := e.device("old", "openshift.io/nics")

	e.node(`touch /run/upgrading
		(while test -e /run/upgrading; do /opt/cni/bin/sriov -version >/run/version 2>&1 || cat /run/version >>/run/absent; sleep 0.1; done) >/dev/null 2>&1 &`)
	e.Cleanup(func() { e.node("rm -f /run/upgrading /run/absent") })
	e.kubectl("-n", "kube-system", "set", "image", "daemonset/multus-shim", "install="+image["multus-shim"])
	in := []string{"-n", component.Namespace}
	e.kubectl(append(in, "set", "image", "deployment/sriov-network-operator", "operator="+image["operator"])...)
	e.kubectl(append(in, "set", "env", "deployment/sriov-network-operator", "SRIOV_NETWORK_CONFIG_DAEMON_IMAGE="+image["operator"],
		"SRIOV_DEVICE_PLUGIN_IMAGE="+image["device-plugin"], "SRIOV_CNI_IMAGE="+image["sriov-cni"])...)
	e.kubectl("-n", "kube-system", "rollout", "status", "daemonset/multus-shim", "--timeout="+patience.String())
	for name, want := range map[string]string{"deployment/sriov-network-operator": image["operator"],
		"daemonset/sriov-network-config-daemon": image["operator"], "daemonset/sriov-device-plugin": image["device-plugin"]} {
		e.kubectl(append(in, "wait", name, "--for=jsonpath={.spec.template.spec.containers[0].image}="+want, "--timeout="+patience.String())...)
		e.kubectl(append(in, "rollout", "status", name, "--timeout="+patience.String())...)
	}
	for _, program := range []string{"sriov", "multus-shim"} {
		assert.Contains(t, e.node("/opt/cni/bin/"+program+" -version"), " "+next)
	}
	e.node("rm /run/upgrading")
	assert.Empty(t, e.node("cat /run/absent 2>/dev/null || true"), "the CNI plugin was always there and whole")
	assert.Equal(t, id, e.get("pod", "old", "-o", "jsonpath={.status.containerStatuses[0].containerID}"))
	assert.Contains(t, e.exec("old", "readlink", "/sys/class/net/net1/device"), vf)

	// Kubelet refuses for good a pod for which the device plugin is not there yet.
	e.allocatable("node1", "openshift.io/nics", "4")
	e.apply(pod{name: "new", networks: "red", resource: "openshift.io/nics"}.deployment())
	e.Cleanup(func() { e.kubectl("delete", "deployment", "new", "--cascade=foreground", "--ignore-not-found") })
	e.kubectl("wait", "deployment/new", "--for=condition=Available", "--timeout="+patience.String())
	e.kubectl("delete", "pod", "old")
	e.kubectl("delete", "deployment", "new", "--cascade=foreground")
	e.restored()
}
