// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/cluster"
)

// looking may look at devices that others have; its claim does, at all of a class. The claims of
// pairs take what there is of two numbers of VFs, for an init container.
const looking = `
---
apiVersion: v1
kind: Namespace
metadata: {name: looking, labels: {resource.kubernetes.io/admin-access: "true"}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: look, namespace: looking}
spec: {spec: {devices: {requests: [{name: vf, exactly: {deviceClassName: claimed.acme.org, allocationMode: All, adminAccess: true}}]}}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: pair}
spec:
  spec:
    devices:
      requests:
      - name: vf
        firstAvailable:
        - {name: three, deviceClassName: claimed.acme.org, count: 3}
        - {name: two, deviceClassName: claimed.acme.org, count: 2}
      constraints: [{requests: [vf], matchAttribute: resource.kubernetes.io/pcieRoot}]
`

// initPod is claimPod with a claim that an init container alone has, and says what it got.
func initPod(name, template, networks, variable string) string {
	const list = "containers: ["
	before, after, _ := strings.Cut(claimPod(name, template, networks, "app"), list)
	return before + fmt.Sprintf("initContainers: [{name: first, image: %s, command: [sh, -c, 'echo $%s'], resources: {claims: [{name: nic}]}}]\n  ", cluster.BusyboxImage, variable) +
		list + strings.Replace(after, ", resources: {claims: [{name: nic}]}", "", 1)
}

// TestLongDRAShares has an administrator's pod look at VFs that others have, one of whom asked
// by the name that every class has as a resource; then an init container alone has two VFs,
// of one request that would rather have had three.
func TestLongDRAShares(t *testing.T) {
	e := newLongEnv(t)
	vfs := e.installDRA(looking)
	e.Cleanup(func() { e.kubectl("delete", "--ignore-not-found", "resourceclaimtemplate/pair", "namespace/looking") })
	e.apply(claimPod("claims", "claimed", "claimed", "one"))
	e.Cleanup(func() { e.kubectl("delete", "--ignore-not-found", "pod", "claims") })
	e.run(pod{name: "by-class", networks: "claimed", resource: "deviceclass.resource.kubernetes.io/claimed.acme.org"})
	e.kubectl("wait", "--for=condition=Ready", "--timeout="+patience.String(), "pod/claims")
	assert.Contains(t, e.exec("by-class", "readlink", "/sys/class/net/net1/device"), e.device("by-class", "acme.org/claimed"))

	// An administrator looks at both, and moves neither.
	look := func(args ...string) string { return e.kubectl(append([]string{"-n", "looking"}, args...)...) }
	_, err := e.Kubectl(e.ctx, strings.NewReader(claimPod("look", "look", "", "app")), "apply", "-n", "looking", "-f", "-")
	require.NoError(t, err)
	look("wait", "--for=condition=Ready", "--timeout="+patience.String(), "pod/look")
	metadata := look("exec", "look", "--", "cat",
		"/var/run/kubernetes.io/dra-device-attributes/resourceclaimtemplates/nic/vf/sriovnetwork.k8snetworkplumbingwg.io-metadata.json")
	for _, name := range vfs[:2] {
		assert.Contains(t, metadata, name)
	}
	assert.NotContains(t, look("exec", "look", "--", "env"), "PCIDEVICE")
	assert.NotContains(t, look("exec", "look", "--", "ls", "/sys/class/net"), "net1")
	look("delete", "pod", "look")
	assert.Contains(t, e.exec("claims", "ping", "-c2", "-W5", e.address("by-class")), " 0% packet loss")
	e.kubectl("delete", "pod", "claims", "by-class")

	// Two VFs of a request, since there are not three, for an init container.
	e.apply(initPod("pair", "pair", "claimed, claimed", "PCIDEVICE_ACME_ORG_CLAIMED"))
	e.Cleanup(func() { e.kubectl("delete", "--ignore-not-found", "pod", "pair") })
	e.kubectl("wait", "--for=condition=Ready", "--timeout="+patience.String(), "pod/pair")
	both := strings.Split(e.kubectl("logs", "pair", "-c", "first"), ",")
	assert.ElementsMatch(t, vfs[:2], both)
	for i, name := range both {
		assert.Contains(t, e.exec("pair", "readlink", fmt.Sprintf("/sys/class/net/net%d/device", i+1)), name)
	}
	e.kubectl("delete", "pod", "pair")
}
