// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// draTemplates are claims of the class "claimed" beside those of one device.
const draTemplates = `
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: look}
spec: {spec: {devices: {requests: [{name: vf, exactly: {deviceClassName: claimed.acme.org, allocationMode: All, adminAccess: true}}]}}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: two}
spec: {spec: {devices: {requests: [{name: vf, exactly: {deviceClassName: claimed.acme.org, allocationMode: ExactCount, count: 2}}]}}}
`

// draLooks runs a pod that looks at devices which others have: it starts, gets nothing, and
// nothing moves.
func (e *env) draLooks(user string) {
	e.Helper()
	e.kubectl("label", "--overwrite", "namespace", "default", "resource.kubernetes.io/admin-access=true")
	e.Cleanup(func() { e.kubectl("label", "namespace", "default", "resource.kubernetes.io/admin-access-") })
	e.apply(claimPod("look", "look", "", "app"))
	e.Cleanup(func() { e.kubectl("delete", "--ignore-not-found", "pod", "look") })
	e.kubectl("wait", "--for=condition=Ready", "--timeout="+patience.String(), "pod/look")
	assert.NotContains(e, e.exec("look", "ls", "/sys/class/net"), "net1")
	assert.NotContains(e, e.exec("look", "env"), "PCIDEVICE")
	e.exec(user, "ip", "link", "show", "net1")
	e.kubectl("delete", "pod", "look")
	e.exec(user, "ip", "link", "show", "net1")
}

// draByClass runs a pod that asks for a VF by its class's own name.
func (e *env) draByClass(free string) {
	e.Helper()
	e.run(pod{name: "byclass", networks: "claimed", resource: "deviceclass.resource.kubernetes.io/claimed.acme.org"})
	require.Contains(e, e.exec("byclass", "readlink", "/sys/class/net/net1/device"), free)
	require.Equal(e, free, e.device("byclass", "acme.org/claimed"))
	e.kubectl("delete", "pod", "byclass")
}

// draSeveral runs a pod that has two VFs by one request, and its network twice: net1 and net2
// are the two, in the order of the claim.
func (e *env) draSeveral() {
	e.Helper()
	e.apply(claimPod("several", "two", "claimed,claimed", "app"))
	e.Cleanup(func() { e.kubectl("delete", "--ignore-not-found", "pod", "several") })
	e.kubectl("wait", "--for=condition=Ready", "--timeout="+patience.String(), "pod/several")
	claim := e.kubectl("get", "pod", "several", "-o", "jsonpath={.status.resourceClaimStatuses[0].resourceClaimName}")
	devices := strings.Fields(e.get("resourceclaim", claim, "-o", "jsonpath={.status.allocation.devices.results[*].device}"))
	require.Len(e, devices, 2)
	for i, netdev := range []string{"net1", "net2"} {
		link := e.exec("several", "readlink", "/sys/class/net/"+netdev+"/device")
		require.Contains(e, strings.NewReplacer(":", "-", ".", "-").Replace(link), devices[i])
	}
	e.until("the claim says what both networks are", func() bool {
		status := e.get("resourceclaim", claim, "-o", "jsonpath={.status.devices[*].networkData.interfaceName}")
		return strings.Contains(status, "net1") && strings.Contains(status, "net2")
	})
	e.kubectl("delete", "pod", "several")
}
