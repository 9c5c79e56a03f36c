// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// draPool has the operator choose who offers node1's VFs.
func draPool(mode string) string {
	return fmt.Sprintf(`
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkPoolConfig
metadata:
  name: mode
  namespace: sriov-network-operator
  annotations: {sriovkit.io/resource-mode: %s}
spec: {nodeSelector: {matchLabels: {kubernetes.io/hostname: node1}}}
`, mode)
}

// claimedNetwork is a pod of node1 whose claim names a network that is not there.
const claimedNetwork = `
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: lost}
spec:
  spec:
    devices:
      requests: [{name: vf, exactly: {deviceClassName: nics.openshift.io}}]
      config:
      - opaque:
          driver: sriovnetwork.k8snetworkplumbingwg.io
          parameters: {apiVersion: sriovnetwork.k8snetworkplumbingwg.io/v1alpha1, kind: VfConfig, netAttachDefName: lost}
---
`

// TestLongDRAMigrates takes node1 from the device plugin to claims and back, by the
// annotation of a pool, under pods whose manifests stay what they are. A pod that has a VF
// in one way keeps it while the node offers the others in the other, and what it lets go of
// is offered again. The second node stays with the device plugin throughout.
func TestLongDRAMigrates(t *testing.T) {
	e := newLongEnv(t)
	label := func() string {
		return e.get("node", "node1", "-o", `jsonpath={.metadata.labels.sriovkit\.io/resource-mode}`)
	}
	offered := func() []string {
		return strings.Fields(e.get("resourceslices", "--field-selector=spec.nodeName=node1", "-o", "jsonpath={.items[*].spec.devices[*].name}"))
	}
	nics := func(pod string) string { return e.device(pod, "openshift.io/nics") }
	uid := func(pod string) string { return e.kubectl("get", "pod", pod, "-o", "jsonpath={.metadata.uid}") }
	name := func(vf string) string { return strings.NewReplacer(":", "-", ".", "-").Replace(vf) }
	e.Cleanup(func() {
		e.kubectl("delete", "--ignore-not-found", "pod", "lost")
		e.kubectl("delete", "--ignore-not-found", "resourceclaimtemplate", "lost")
		e.kubectl("delete", "--ignore-not-found", "-n", "sriov-network-operator", "sriovnetworkpoolconfig", "mode")
		e.until("the node is as before", func() bool { return label() == "" })
		e.allocatable("node1", "openshift.io/nics", "4")
		e.allocatable("node1", "openshift.io/dpdk", "2")
	})

	e.run(pod{name: "before", networks: "red", resource: "openshift.io/nics"})
	before, vf := uid("before"), nics("before")
	e.apply(draPool("dra"))
	e.until("all VFs but the pod's are offered to claims", func() bool { return label() == "dra" && len(offered()) == 5 })
	require.NotContains(t, offered(), name(vf))
	require.Equal(t, before, uid("before"))
	e.exec("before", "ip", "link", "show", "net1")
	e.allocatable("node1", "openshift.io/nics", "0")

	t.Log("one manifest, a node of each kind")
	e.run(pod{name: "claimed", networks: "red", resource: "openshift.io/nics"}, pod{name: "plugged", networks: "red", resource: "openshift.io/nics", node: "node2"})
	require.NotEmpty(t, e.kubectl("get", "pod", "claimed", "-o", "jsonpath={.status.extendedResourceClaimStatus.resourceClaimName}"))
	require.Empty(t, e.kubectl("get", "pod", "plugged", "-o", "jsonpath={.status.extendedResourceClaimStatus.resourceClaimName}"))
	require.NotEqual(t, vf, nics("claimed"))
	for _, p := range []string{"before", "plugged"} {
		require.Contains(t, e.exec("claimed", "ping", "-c2", "-W5", e.address(p)), " 0% packet loss")
	}

	t.Log("what the old pod lets go of is offered")
	e.kubectl("delete", "pod", "before")
	gone := time.Now()
	e.until("its VF is offered", func() bool { return slices.Contains(offered(), name(vf)) })
	t.Logf("offered %s after its pod was gone, with the polls of this test", time.Since(gone).Round(100*time.Millisecond))

	t.Log("a network that is not there")
	e.apply(claimedNetwork + claimPod("lost", "lost", "", "app"))
	e.until("the pod's event names claim, request and network", func() bool {
		events := e.get("events", "--field-selector=involvedObject.name=lost", "-o", "jsonpath={.items[*].message}")
		return strings.Contains(events, "lost-nic-") && strings.Contains(events, "request vf") && strings.Contains(events, "default/lost")
	})
	e.kubectl("delete", "pod", "lost")

	t.Log("another instance of the driver: no slice goes, and pods start throughout")
	slicesBefore := e.get("resourceslices", "--field-selector=spec.nodeName=node1", "-o", "jsonpath={.items[*].metadata.uid}")
	e.kubectl("rollout", "restart", "-n", "sriov-network-operator", "daemonset/sriov-dra-driver")
	e.run(pod{name: "meanwhile", networks: "red", resource: "openshift.io/nics"})
	e.kubectl("rollout", "status", "-n", "sriov-network-operator", "daemonset/sriov-dra-driver", "--timeout="+patience.String())
	require.Equal(t, slicesBefore, e.get("resourceslices", "--field-selector=spec.nodeName=node1", "-o", "jsonpath={.items[*].metadata.uid}"))
	e.kubectl("delete", "pod", "meanwhile")

	t.Log("back, while a pod has a claim")
	claimed, taken := uid("claimed"), nics("claimed")
	e.apply(draPool("device-plugin"))
	e.until("the device plugin is back beside the driver", func() bool { return label() == "dra-rest" })
	e.allocatable("node1", "openshift.io/nics", "3")
	require.Contains(t, e.get("sriovnetworknodestate", "node1", "-n", "sriov-network-operator", "-o", `jsonpath={.status.conditions[?(@.type=="ResourceMode")].message}`), "pod default/claimed")
	e.run(pod{name: "after", networks: "red", resource: "openshift.io/nics"})
	require.NotEqual(t, taken, nics("after"))
	require.Equal(t, claimed, uid("claimed"))
	require.Contains(t, e.exec("claimed", "ping", "-c2", "-W5", e.address("after")), " 0% packet loss")
	e.kubectl("delete", "pod", "claimed")
	e.until("the driver goes with the last claim", func() bool { return label() == "" })
	e.allocatable("node1", "openshift.io/nics", "4")
	require.NotEmpty(t, nics("after"))
}
