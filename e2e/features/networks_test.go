// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestClusterVFs gives pods VFs with MAC, VLAN and address, by device IDs that come
// from the device plugin through the meta-plugin: those on one VLAN talk, also from
// node to node, and others do not, and afterwards the VFs are as before.
func TestClusterVFs(t *testing.T) {
	e := newEnv(t)
	require.Equal(t, 4, e.hostVFs())
	e.run(
		pod{name: "red-1", networks: `[{"name": "red", "mac": "02:00:00:00:10:01"}]`, resource: "openshift.io/nics"},
		pod{name: "red-2", networks: "red@fast0", resource: "openshift.io/nics"},
		pod{name: "blue-1", networks: "blue", resource: "openshift.io/nics"},
		pod{name: "red-far", networks: `[{"name": "red", "ips": ["10.56.1.249/16"]}]`, resource: "openshift.io/nics", node: "node2"},
	)
	assert.Equal(t, 1, e.hostVFs(), "three VFs are in pods")
	assert.Contains(t, e.exec("red-1", "ip", "link", "show", "net1"), "02:00:00:00:10:01")
	assert.Regexp(t, `link/ether 02:00:00:00:10:01.*vlan 100`, e.vfs(), "the PF knows the pod's MAC and VLAN")
	assert.Equal(t, 2, strings.Count(e.vfs(), "vlan 100"))
	assert.Equal(t, 1, strings.Count(e.vfs(), "vlan 200"))

	vf := e.device("red-2", "openshift.io/nics")
	assert.Contains(t, e.exec("red-2", "readlink", "/sys/class/net/fast0/device"), vf)
	assert.Contains(t, e.status("red-2"), vf, "the network status names the device")

	for _, peer := range []string{"red-2", "red-far"} {
		assert.Contains(t, e.exec("red-1", "ping", "-c2", "-W5", e.address(peer)), " 0% packet loss", peer)
	}
	_, err := e.Kubectl(e.ctx, nil, "exec", "red-1", "--", "ping", "-c2", "-W2", e.address("blue-1"))
	assert.Error(t, err, "another VLAN")

	e.kubectl("delete", "pod", "red-1", "red-2", "blue-1", "red-far")
	e.restored()
}

// TestClusterNADs attaches a network whose configuration is in the object and one
// whose configuration is a file on the node.
func TestClusterNADs(t *testing.T) {
	e := newEnv(t)
	e.node(`mkdir -p /etc/cni/multus/net.d
		echo '{"cniVersion":"1.0.0","name":"filed","type":"bridge","bridge":"br-filed","ipam":{"type":"host-local","subnet":"10.12.0.0/24"}}' >/etc/cni/multus/net.d/filed.conf`)
	e.apply(`
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: filed}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: inline}
spec: {config: '{"cniVersion":"1.0.0","type":"bridge","bridge":"br-inline","ipam":{"type":"host-local","subnet":"10.13.0.0/24"}}'}
`)
	e.run(pod{name: "multi", networks: "filed, inline, red", resource: "openshift.io/nics"})
	addresses := e.exec("multi", "ip", "-o", "-4", "addr")
	for ifname, prefix := range map[string]string{"eth0": "10.244.", "net1": "10.12.0.", "net2": "10.13.0.", "net3": "10.56.1."} {
		assert.Regexp(t, ifname+` +inet `+prefix, addresses)
	}
	e.kubectl("delete", "pod", "multi")
	e.kubectl("delete", "net-attach-def", "filed", "inline")
}

// TestClusterNetworkObjects makes a NetworkAttachmentDefinition from a SriovNetwork,
// follows a change of it, and deletes both under a pod, which keeps its VF and
// gives it back without them.
func TestClusterNetworkObjects(t *testing.T) {
	e := newEnv(t)
	e.apply(network("green", "nics", 300, 3))
	nad := func(path string) string { return e.get("net-attach-def", "green", "-o", "jsonpath="+path) }
	rendered := func(vlan int) bool {
		var conf struct {
			Name, Type string
			VLAN       int
		}
		err := json.Unmarshal([]byte(nad("{.spec.config}")), &conf)
		return err == nil && conf.Name == "green" && conf.Type == "sriov" && conf.VLAN == vlan
	}
	e.until("the NAD", func() bool { return rendered(300) })
	e.apply(network("green", "nics", 301, 3))
	e.until("the NAD follows", func() bool { return rendered(301) })
	assert.Equal(t, "openshift.io/nics", nad(`{.metadata.annotations.k8s\.v1\.cni\.cncf\.io/resourceName}`))

	e.run(pod{name: "heir", networks: "green", resource: "openshift.io/nics"})
	assert.Contains(t, e.vfs(), "vlan 301")
	e.kubectl("delete", "sriovnetwork", "green", "-n", "sriov-network-operator")
	e.until("the NAD goes with its network", func() bool { return strings.Contains(nad(""), "NotFound") })
	assert.Contains(t, e.exec("heir", "ip", "addr", "show", "net1"), "10.56.3.")
	e.kubectl("delete", "pod", "heir")
	e.restored()
}

// TestClusterAPIDown takes the API server away after a pod was deleted and before its
// containers have ended: its VF comes back all the same.
func TestClusterAPIDown(t *testing.T) {
	e := newEnv(t)
	late := pod{name: "late", networks: "red", resource: "openshift.io/nics"}
	e.apply(strings.Replace(late.manifest(), "terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 20", 1))
	e.Cleanup(func() { e.kubectl("delete", "pod", "late", "--ignore-not-found") })
	e.kubectl("wait", "pod/late", "--for=condition=Ready", "--timeout="+patience.String())
	require.Equal(t, 3, e.hostVFs())
	e.kubectl("delete", "pod", "late", "--wait=false")
	// sleep does not end on SIGTERM, so there are 20 s from when kubelet knows.
	e.until("kubelet stops the pod", func() bool {
		return strings.Contains(e.get("events", "--field-selector=involvedObject.name=late,reason=Killing"), "Stopping")
	})
	const rule = "OUTPUT -d 10.0.2.2 -p tcp --dport 6443 -j DROP"
	e.node("iptables -w -I " + rule)
	e.Cleanup(func() { e.node("iptables -w -D " + rule) })
	e.until("the VF is back", func() bool { return e.hostVFs() == 4 })
	assert.NotContains(t, e.vfs(), "vlan")
}
