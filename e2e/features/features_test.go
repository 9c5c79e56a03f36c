package features_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestClusterNADs attaches a network whose configuration is in the object and one
// whose configuration is a file on the node.
func TestClusterNADs(t *testing.T) {
	e := newEnv(t)
	e.node(`mkdir -p /etc/cni/multus/net.d
		echo '{"cniVersion":"1.0.0","name":"filed","type":"bridge","bridge":"br-filed","ipam":{"type":"host-local","subnet":"10.12.0.0/24"}}' >/etc/cni/multus/net.d/filed.conf`)
	const nads = `
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: filed}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: inline}
spec: {config: '{"cniVersion":"1.0.0","type":"bridge","bridge":"br-inline","ipam":{"type":"host-local","subnet":"10.13.0.0/24"}}'}
`
	e.apply(nads)
	e.run(pod{"multi", "filed, inline, red", "nics"})
	addresses := e.exec("multi", "ip", "-o", "-4", "addr")
	for ifname, prefix := range map[string]string{"eth0": "10.244.", "net1": "10.12.0.", "net2": "10.13.0.", "net3": "10.56.0.1"} {
		assert.Regexp(t, ifname+` +inet `+prefix, addresses)
	}
	e.kubectl("delete", "pod", "multi")
	e.kubectl("delete", "net-attach-def", "filed", "inline")
}
