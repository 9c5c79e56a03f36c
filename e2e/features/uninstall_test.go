// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
)

// TestClusterUninstall takes the operator and what it installed away: policies,
// networks and configuration first, then its manifests. No object, label, VF,
// resource or socket is left; the CNI plugins stay on the nodes, for pods that may
// still have to give something back. Then the meta-plugin: the nodes are left with
// the default network alone, for pods of before and for new ones, and the networks of
// tenants stay.
func TestClusterUninstall(t *testing.T) {
	e := newEnv(t)
	checkout, err := component.Checkout(e.ctx)
	require.NoError(t, err)
	in := func(args ...string) string { return e.kubectl(append(args, "-n", component.Namespace)...) }

	in("delete", "sriovnetworknodepolicies,sriovnetworks", "--all", "--timeout="+patience.String())
	e.until("no VFs", func() bool {
		return strings.Trim(e.node("cat /sys/bus/pci/devices/*/sriov_numvfs")+e.on(1, "cat /sys/bus/pci/devices/*/sriov_numvfs"), "0\n") == ""
	})
	e.allocatable("node1", "openshift.io/nics", "0")
	e.until("no device plugin on nodes without resources", func() bool {
		return e.get("nodes", "-o", `jsonpath={.items[*].metadata.labels.sriovnetwork\.openshift\.io/device-plugin}`) == "Disabled Disabled"
	})
	e.until("no NADs", func() bool { return e.get("net-attach-def", "-A", "-o", "name") == "" })
	in("delete", "sriovoperatorconfig", "default", "--timeout="+patience.String())
	e.until("daemons and states are gone", func() bool {
		return e.get("daemonsets,sriovnetworknodestates", "-n", component.Namespace, "-o", "name") == ""
	})
	e.until("nodes without labels", func() bool {
		return !strings.Contains(e.get("nodes", "-o", "jsonpath={.items[*].metadata.labels}"), "sriov")
	})
	e.apply("{apiVersion: sriovnetwork.openshift.io/v1, kind: SriovNetwork, metadata: {name: forgotten, namespace: " + component.Namespace + "}, spec: {resourceName: nics}}")
	e.until("a network that is forgotten hangs nothing", func() bool { return strings.Contains(e.get("net-attach-def", "-A", "-o", "name"), "forgotten") })
	e.kubectl("delete", "-k", filepath.Join(checkout, "operator/config"), "--timeout="+patience.String())

	const kinds = "crds,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,priorityclasses,namespaces,mutatingwebhookconfigurations,validatingwebhookconfigurations"
	assert.NotRegexp(t, "sriov", e.get(kinds, "-o", "name"))
	assert.Empty(t, e.node(`cd /var/lib/kubelet; find device-plugins plugins_registry -name '*openshift*'; find /var/run/cdi -name '*openshift*' 2>/dev/null; true`))
	e.run(pod{name: "plain"})
	assert.Contains(t, e.exec("plain", "ip", "addr", "show", "eth0"), "10.244.")
	address := e.get("pod", "plain", "-o", "jsonpath={.status.podIP}")

	e.kubectl("delete", "-k", filepath.Join(checkout, "multus-shim/deploy/workload"), "--timeout="+patience.String())
	for node := range e.Nodes {
		e.until("the default network is alone", func() bool {
			return e.on(node, "ls -A /etc/cni/net.d") == "10-bridge.conflist"
		})
	}
	assert.NotContains(t, e.get(kinds, "-o", "name"), "multus")
	assert.Contains(t, e.get("crds", "-o", "name"), "network-attachment-definitions.k8s.cni.cncf.io", "the networks of tenants stay")
	e.kubectl("delete", "pod", "plain")
	assert.NotContains(t, strings.Fields(e.node("ls /var/lib/cni/networks/bridge")), address, "given back without the meta-plugin")
	e.run(pod{name: "next"})
	assert.Contains(t, e.exec("next", "ip", "addr", "show", "eth0"), "10.244.")
}
