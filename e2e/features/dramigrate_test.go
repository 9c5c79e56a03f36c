// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/cluster"
	"github.com/sriovkit/sriovkit/e2e/component"
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

// firstOnly is a VF for user space that an init container alone has, in a pod that takes its
// time to end.
const firstOnly = `
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: user}
spec: {spec: {devices: {requests: [{name: vf, exactly: {deviceClassName: dpdk.openshift.io}}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: first}
spec:
  selector: {matchLabels: {app: first}}
  template:
    metadata: {labels: {app: first}}
    spec:
      terminationGracePeriodSeconds: 20
      nodeSelector: {kubernetes.io/hostname: node1}
      resourceClaims: [{name: nic, resourceClaimTemplateName: user}]
      initContainers: [{name: first, image: IMAGE, command: ["true"], resources: {claims: [{name: nic}]}}]
      containers: [{name: app, image: IMAGE}]
`

// drainsClaims takes one of two VFs for user space away while claims have both: one of a
// container by its extended resource, the other of an init container alone, of which kubelet
// tells nobody. The node is drained first.
func (e *env) drainsClaims() {
	e.Helper()
	e.Log("a change that disturbs VFs of claims")
	e.apply(pod{name: "driver", networks: "dpdk", resource: "openshift.io/dpdk"}.deployment() + "---" + strings.ReplaceAll(firstOnly, "IMAGE", cluster.BusyboxImage))
	deployments := []string{"deployment/driver", "deployment/first"}
	remove := func() {
		e.kubectl(append([]string{"delete", "--ignore-not-found", "--cascade=foreground"}, deployments...)...)
		e.kubectl("delete", "--ignore-not-found", "resourceclaimtemplate", "user")
	}
	e.Cleanup(func() {
		remove()
		e.apply(policies)
	})
	uids := func(app string) []string {
		return strings.Fields(e.get("pods", "-l", "app="+app, "-o", "jsonpath={.items[*].metadata.uid}"))
	}
	for _, d := range deployments {
		e.kubectl("wait", d, "--for=condition=Available", "--timeout="+patience.String())
	}
	driver, first := uids("driver")[0], uids("first")[0]
	e.until("a row for what kubelet does not list", func() bool {
		name := e.get("pods", "-l", "app=first", "-o", "jsonpath={.items[0].metadata.name}")
		return e.row(name, "openshift.io/dpdk", "0000:02:")
	})
	numVFs := func() string { return e.node("cat /sys/bus/pci/devices/0000:02:00.0/sriov_numvfs") }

	e.apply(policy("dpdk", "node1", "0000:02:00.0", 1, "vfio-pci"))
	// Its container is killed 20 s after that.
	e.until("the pod of the init container has to end", func() bool {
		return e.get("pods", "-l", "app=first", "-o", "jsonpath={.items[?(@.metadata.deletionTimestamp)].metadata.uid}") == first
	})
	require.Equal(e, "2", numVFs(), "nothing is changed before the pods are gone")
	e.until("one VF", func() bool { return numVFs() == "1" })
	require.NotContains(e, uids("driver"), driver)
	require.NotContains(e, uids("first"), first)
	e.until("uncordoned", func() bool { return e.get("node", "node1", "-o", "jsonpath={.spec.unschedulable}") == "" })
	e.until("one of the two has the VF that is left", func() bool {
		return strings.Count(e.get("pods", "-l", "app in (driver, first)", "-o", "jsonpath={.items[*].status.phase}"), "Running") == 1
	})
	remove()
	e.apply(policies)
	e.until("two VFs", func() bool { return numVFs() == "2" })
}

// serveMetrics has the device plugins and DRA drivers serve metrics.
func (e *env) serveMetrics() {
	e.Helper()
	gate := func(on bool) {
		e.kubectl("patch", "sriovoperatorconfig", "default", "-n", component.Namespace, "--type=merge", "-p", fmt.Sprintf(`{"spec":{"featureGates":{"metricsExporter":%t}}}`, on))
		e.until("the device plugins are to serve metrics, or not", func() bool {
			args := e.get("daemonset", "sriov-device-plugin", "-n", component.Namespace, "-o", "jsonpath={.spec.template.spec.containers[0].args}")
			return strings.Contains(args, "--metrics-address") == on
		})
		e.kubectl("rollout", "status", "-n", component.Namespace, "daemonset/sriov-device-plugin", "--timeout="+patience.String())
		e.allocatable("node1", "openshift.io/nics", "4")
		e.allocatable("node2", "openshift.io/nics", "2")
	}
	e.Cleanup(func() { gate(false) })
	gate(true)
}

// row reports whether the metrics of node1 say that a pod has a device of a resource.
func (e *env) row(pod, resource, device string) bool {
	e.Helper()
	for line := range strings.Lines(e.node("busybox wget -qO- http://" + e.Nodes[0].Address + ":9110/metrics || true")) {
		if strings.HasPrefix(line, "sriov_kubepoddevice{") && strings.Contains(line, `pod="`+pod+`"`) &&
			strings.Contains(line, `dev_type="`+resource+`"`) && strings.Contains(line, `pciAddr="`+device) {
			return true
		}
	}
	return false
}

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

	e.serveMetrics()
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

	t.Log("the driver counts traffic and tells who has what, as the device plugin did")
	for _, p := range []string{"before", "claimed"} {
		e.until(p+" has a row", func() bool { return e.row(p, "openshift.io/nics", nics(p)) })
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

	e.drainsClaims()
	e.run(pod{name: "claimed", networks: "red", resource: "openshift.io/nics"}) // a drain evicts all pods with VFs
	claimed, taken := uid("claimed"), nics("claimed")

	t.Log("back, while a pod has a claim")
	e.apply(draPool("device-plugin"))
	e.until("the device plugin is back beside the driver", func() bool { return label() == "dra-rest" })
	e.allocatable("node1", "openshift.io/nics", "3")
	require.Contains(t, e.get("sriovnetworknodestate", "node1", "-n", "sriov-network-operator", "-o", `jsonpath={.status.conditions[?(@.type=="ResourceMode")].message}`), "pod default/claimed")
	e.run(pod{name: "after", networks: "red", resource: "openshift.io/nics"})
	require.NotEqual(t, taken, nics("after"))
	require.Equal(t, claimed, uid("claimed"))
	require.Contains(t, e.exec("claimed", "ping", "-c2", "-W5", e.address("after")), " 0% packet loss")
	e.until("the device plugin counts again, and knows the claim's pod", func() bool {
		return e.row("after", "openshift.io/nics", nics("after")) && e.row("claimed", "sriovnetwork.k8snetworkplumbingwg.io", taken)
	})
	e.kubectl("delete", "pod", "claimed")
	e.until("the driver goes with the last claim", func() bool { return label() == "" })
	e.allocatable("node1", "openshift.io/nics", "4")
	require.NotEmpty(t, nics("after"))
}
