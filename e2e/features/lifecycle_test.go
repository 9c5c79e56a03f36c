// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
		return err == nil && strings.Contains(out, "10.56.1.")
	})
	e.kubectl("wait", "deployment/phoenix", "--for=condition=Available", "--timeout="+patience.String())
	assert.Equal(t, 1, strings.Count(e.vfs(), "vlan 100"))
	assert.Equal(t, 3, e.hostVFs())
	e.allocatable("node1", "openshift.io/dpdk", "2")

	e.kubectl("delete", "deployment", "phoenix", "--cascade=foreground")
	e.restored()
}
