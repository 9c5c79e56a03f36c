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

	"github.com/sriovkit/sriovkit/e2e/cluster"
	"github.com/sriovkit/sriovkit/e2e/component"
)

// draConfig offers the VFs of node1's third port to claims, classes and networks for them.
const draConfig = `
apiVersion: v1
kind: ConfigMap
metadata: {name: sriovdra, namespace: kube-system}
data:
  config.json: |
    {"resourceList": [
      {"resourceName": "claimed", "resourcePrefix": "acme.org", "linkHealth": true,
       "selectors": {"drivers": ["igbvf"], "rootDevices": ["0000:03:00.0"]}},
      {"resourceName": "bound", "resourcePrefix": "acme.org", "selectors": {"drivers": ["vfio-pci"], "rootDevices": ["0000:03:00.0"]}}
    ]}
`

func draClass(name string) string {
	return fmt.Sprintf(`
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: %[1]s.acme.org}
spec:
  extendedResourceName: acme.org/%[1]s
  selectors:
  - cel: {expression: 'device.driver == "sriovnetwork.k8snetworkplumbingwg.io" && device.attributes["k8s.cni.cncf.io"].resourceName == "acme.org/%[1]s"'}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: %[1]s}
spec: {spec: {devices: {requests: [{name: vf, exactly: {deviceClassName: %[1]s.acme.org}}]}}}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: %[1]s
  annotations: {k8s.v1.cni.cncf.io/resourceName: acme.org/%[1]s}
spec:
  config: '{"cniVersion": "1.0.0", "name": "%[1]s", "type": "sriov", "vlan": 100,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.56.0.0/16", "rangeStart": "10.56.9.10", "rangeEnd": "10.56.9.249"}]]}}'
`, name)
}

// claimPod is a pod of node1 whose containers share one claim.
func claimPod(name, template, networks string, containers ...string) string {
	var list []string
	for _, c := range containers {
		list = append(list, fmt.Sprintf(`{name: %s, image: %s, resources: {claims: [{name: nic}]}}`, c, cluster.BusyboxImage))
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: %s
  annotations: {k8s.v1.cni.cncf.io/networks: '%s'}
spec:
  terminationGracePeriodSeconds: 1
  nodeSelector: {kubernetes.io/hostname: node1}
  resourceClaims: [{name: nic, resourceClaimTemplateName: %s}]
  containers: [%s]
`, name, networks, template, strings.Join(list, ", "))
}

// spare runs a shell command in the sysfs directory of node1's third port.
func (e *env) spare(script string) string {
	e.Helper()
	return e.node("cd /sys/bus/pci/devices/0000:03:00.0\n" + script)
}

// installDRA installs the DRA driver with its own manifests on node1 beside the operator's device
// plugin, for three VFs of the third port, the last of which is for user space; with more
// objects, which go with their claims.
func (e *env) installDRA(more string) (vfs []string) {
	e.Helper()
	checkout, err := component.Checkout(e.ctx)
	require.NoError(e, err)
	dir := filepath.Join(checkout, "device-plugin/deploy/dra")
	manifest, err := os.ReadFile(filepath.Join(dir, "daemonset.yaml"))
	require.NoError(e, err)
	_, daemonSet, found := strings.Cut(string(manifest), "\n---\n")
	require.True(e, found, "a ConfigMap, then the rest")
	rights := []string{"-f", filepath.Join(dir, "rbac.yaml"), "-f", filepath.Join(dir, "admission.yaml")}
	e.kubectl(append([]string{"apply"}, rights...)...)
	objects := draConfig + draClass("claimed") + draClass("bound") + more + "---\n" + daemonSet
	e.apply(objects)
	slices := func() string {
		return e.get("resourceslices", "--field-selector=spec.nodeName=node1", "-o", "jsonpath={.items[*].spec.devices[*].name}")
	}
	e.Cleanup(func() {
		e.kubectl("label", "node", "node1", "sriovkit.io/resource-mode-")
		e.kubectl("delete", "--ignore-not-found", "deviceclass/claimed.acme.org", "deviceclass/bound.acme.org", "resourceclaimtemplate/claimed",
			"resourceclaimtemplate/bound", "net-attach-def/claimed", "net-attach-def/bound")
		e.kubectl("delete", "--ignore-not-found", "-n", "kube-system", "daemonset/sriovdra", "configmap/sriovdra")
		e.kubectl(append([]string{"delete", "--ignore-not-found"}, rights...)...)
		e.spare("echo 0 >sriov_numvfs")
		e.until("kubelet takes the slices of a driver that is gone away", func() bool { return slices() == "" })
	})
	e.spare("ip link set $(ls net) up; echo 3 >sriov_numvfs")
	vfs = strings.Fields(e.spare("for i in 0 1 2; do basename $(readlink virtfn$i); done"))
	e.spare("echo vfio-pci >virtfn2/driver_override; echo " + vfs[2] + " >virtfn2/driver/unbind; echo " + vfs[2] + " >/sys/bus/pci/drivers_probe")
	e.kubectl("label", "node", "node1", "sriovkit.io/resource-mode=dra")
	e.until("three devices are published", func() bool { return len(strings.Fields(slices())) == 3 })
	return vfs
}

// TestClusterDRA installs the DRA driver with its own manifests beside the operator's
// device plugin, each for VFs of their own, and gives pods VFs by claims: explicit ones,
// and the extended resource of a pod that knows nothing of claims. A cable is pulled. A
// VF for user space gets its nodes. Two containers share a claim.
func TestClusterDRA(t *testing.T) {
	e := newEnv(t)
	vfs := e.installDRA("")

	// A claim, two containers of which share it; and an extended resource.
	e.apply(claimPod("claims", "claimed", "claimed", "one", "two"))
	e.Cleanup(func() { e.kubectl("delete", "--ignore-not-found", "pod", "claims", "user") })
	e.run(pod{name: "extended", networks: "claimed", resource: "acme.org/claimed"})
	e.kubectl("wait", "--for=condition=Ready", "--timeout="+patience.String(), "pod/claims")
	vf := e.exec("claims", "sh", "-c", "echo $PCIDEVICE_ACME_ORG_CLAIMED")
	other := e.device("extended", "acme.org/claimed")
	assert.ElementsMatch(t, vfs[:2], []string{vf, other})
	assert.Equal(t, vf, e.kubectl("exec", "claims", "-c", "two", "--", "sh", "-c", "echo $PCIDEVICE_ACME_ORG_CLAIMED"))
	for name, device := range map[string]string{"claims": vf, "extended": other} {
		assert.Contains(t, e.exec(name, "readlink", "/sys/class/net/net1/device"), device)
	}
	assert.Equal(t, 2, strings.Count(e.spare("ip link show dev $(ls net)"), "vlan 100"))
	assert.Contains(t, e.exec("claims", "ping", "-c2", "-W5", e.address("extended")), " 0% packet loss")
	assert.Contains(t, e.exec("claims", "cat",
		"/var/run/kubernetes.io/dra-device-attributes/resourceclaimtemplates/nic/vf/sriovnetwork.k8snetworkplumbingwg.io-metadata.json"), vf)
	claim := e.kubectl("get", "pod", "claims", "-o", "jsonpath={.status.resourceClaimStatuses[0].resourceClaimName}")
	e.until("the claim says what its network is", func() bool {
		status := e.get("resourceclaim", claim, "-o", "jsonpath={.status.devices[0]}")
		return strings.Contains(status, "net1") && strings.Contains(status, e.address("claims"))
	})

	// A VF for user space, bound by an administrator.
	e.apply(claimPod("user", "bound", "bound", "app"))
	e.kubectl("wait", "--for=condition=Ready", "--timeout="+patience.String(), "pod/user")
	e.exec("user", "test", "-c", "/dev/vfio/vfio")
	e.exec("user", "test", "-c", "/dev/vfio/"+e.spare("basename $(readlink virtfn2/iommu_group)"))

	// Without a link nobody new gets a VF of a pool that cares.
	e.kubectl("delete", "pod", "extended")
	require.NoError(t, e.Nodes[0].SetLink(2, false))
	e.Cleanup(func() { require.NoError(t, e.Nodes[0].SetLink(2, true)) })
	taints := func() int {
		return strings.Count(e.get("resourceslices", "--field-selector=spec.nodeName=node1", "-o", "jsonpath={.items[*].spec.devices[*].taints[*].key}"), "sriovkit.io/no-carrier")
	}
	e.until("both have the taint", func() bool { return taints() == 2 })
	e.apply(pod{name: "waiting", networks: "claimed", resource: "acme.org/claimed"}.manifest())
	e.Cleanup(func() { e.kubectl("delete", "--ignore-not-found", "pod", "waiting") })
	e.until("the pod is not scheduled", func() bool {
		return strings.Contains(e.get("pod", "waiting", "-o", "jsonpath={.status.conditions[*].reason}"), "Unschedulable")
	})
	require.NoError(t, e.Nodes[0].SetLink(2, true))
	e.kubectl("wait", "--for=condition=Ready", "--timeout="+patience.String(), "pod/waiting")

	e.kubectl("delete", "pod", "waiting", "claims", "user")
	e.until("nothing is left of the claims", func() bool {
		return e.node(`ls /var/lib/kubelet/plugins/sriovnetwork.k8snetworkplumbingwg.io/claims /var/run/cdi 2>/dev/null | grep -E '^[0-9a-f]{8}-.*json|_claim_|_metadata_' || true
			ls /var/run/k8s.cni.cncf.io/devinfo/dp | grep acme.org || true`) == ""
	})
}
