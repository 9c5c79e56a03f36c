// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/netns"
)

// claimObjects are a pod of node1, the installer's pod, and the pod's claim, whose
// allocation is added to its status.
const claimObjects = `
{apiVersion: v1, kind: Node, metadata: {name: node1}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: default}}
---
{apiVersion: v1, kind: Pod, metadata: {name: installer, namespace: kube-system}, spec: {nodeName: node1, serviceAccountName: multus-shim, containers: [{name: c, image: none}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: app}, spec: {nodeName: node1, resourceClaims: [{name: nic, resourceClaimName: nic}],
  containers: [{name: c, image: none, resources: {claims: [{name: nic}]}}]}}
---
{apiVersion: resource.k8s.io/v1, kind: ResourceClaim, metadata: {name: nic}, spec: {devices: {requests: [{name: vf, exactly: {deviceClassName: any}}]}}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: slice}
spec:
  driver: acme.org
  nodeName: node1
  pool: {name: node1, generation: 1, resourceSliceCount: 1}
  devices: [{name: vf0, attributes: {k8s.cni.cncf.io/deviceID: {string: '0000:01:00.1'}, k8s.cni.cncf.io/resourceName: {string: acme.org/vf}}}]
`

const claimStatus = `{"status":{"allocation":{"devices":{
	"results":[{"request":"vf","driver":"acme.org","pool":"node1","device":"vf0"}],
	"config":[{"source":"FromClaim","requests":["vf"],"opaque":{"driver":"acme.org","parameters":
		{"apiVersion":"sriovnetwork.k8snetworkplumbingwg.io/v1alpha1","kind":"VfConfig","netAttachDefName":"storage"}}}]}}}}`

// A claim asks for a network that is not there: with the rights that it is installed with,
// multus-shim finds the claim, and the pod's event names claim, request and network.
func TestMultusNamesTheClaimOfAMissingNetwork(t *testing.T) {
	t.Parallel()
	cp, kubectl := startPlane(t)
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, component.Programs(t.Context(), checkout, dir, "multus-shim"))
	kubectl("", "apply", "-k", filepath.Join(checkout, "multus-shim/deploy"))
	kubectl("", "wait", "crd/network-attachment-definitions.k8s.cni.cncf.io", "--for=condition=Established", "--timeout=60s")
	kubectl(claimObjects, "apply", "-f", "-")
	kubectl("", "patch", "resourceclaim", "nic", "--subresource=status", "--type=merge", "-p", claimStatus)
	uid := kubectl("", "get", "pod", "app", "-o", "jsonpath={.metadata.uid}")
	token := kubectl("", "-n", "kube-system", "create", "token", "multus-shim", "--bound-object-kind=Pod", "--bound-object-name=installer",
		"--bound-object-uid="+kubectl("", "-n", "kube-system", "get", "pod", "installer", "-o", "jsonpath={.metadata.uid}"))

	// The kubelet says that the pod's claim is prepared.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dra_manager_state"), []byte(uid), 0o600))
	kubeconfig, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"contexts": []any{map[string]any{"name": "c", "context": map[string]string{"cluster": "k", "user": "u"}}},
		"clusters": []any{map[string]any{"name": "k", "cluster": map[string]any{"server": cp.URL, "certificate-authority-data": cp.CA()}}},
		"users":    []any{map[string]any{"name": "u", "user": map[string]string{"token": token}}},
	})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kubeconfig"), kubeconfig, 0o600))
	ns, err := netns.New(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = ns.Close() })
	add := exec.CommandContext(t.Context(), filepath.Join(dir, "multus-shim"))
	add.Env = append(os.Environ(), "CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", "CNI_PATH="+dir,
		fmt.Sprintf("CNI_NETNS=/proc/%d/fd/%d", os.Getpid(), ns.File.Fd()),
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=app;K8S_POD_UID="+uid)
	add.Stdin = strings.NewReader(fmt.Sprintf(`{"cniVersion":"1.0.0","name":"multus","type":"multus-shim","kubeconfig":%q,"cniDir":%q,"kubeletDir":%q,
		"delegates":[{"cniVersion":"1.0.0","name":"primary","type":"none"}],"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{}}}`,
		filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "state"), dir))
	var stdout, stderr bytes.Buffer
	add.Stdout, add.Stderr = &stdout, &stderr
	require.Error(t, add.Run())
	var failure struct {
		Code int
		Msg  string
	}
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &failure), "%s", stderr.String())
	assert.Equal(t, 7, failure.Code)
	event := kubectl("", "get", "events", "--field-selector=involvedObject.uid="+uid, "-o", "jsonpath={.items[*].message}")
	for _, text := range []string{failure.Msg, event} {
		for _, want := range []string{"default/nic", "request vf", "default/storage"} {
			assert.Contains(t, text, want)
		}
	}
}
