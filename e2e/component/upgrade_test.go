// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
)

// upstreams is what a cluster may have that upstream's plugins and kinds without limits took.
const upstreams = `
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: good, namespace: default}
spec: {config: '{"cniVersion":"1.0.0","name":"good","type":"sriov","vlan":100}'}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: capital, namespace: default}
spec: {config: '{"cniVersion":"1.0.0","name":"capital","type":"sriov","spoofchk":"On"}'}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: logs, namespace: default}
spec: {config: '{"cniVersion":"1.0.0","name":"logs","type":"sriov","logFile":"/tmp/sriov.log"}'}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: sriovdp-config, namespace: kube-system}
data:
  config.json: |
    {"resourceList": [{"resourceName": "nics", "selectors": {"excludeTopology": true}}]}
---
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkNodePolicy
metadata: {name: fine, namespace: default}
spec: {resourceName: nics, nodeSelector: {}, numVfs: 4, nicSelector: {pfNames: [ens1]}}
---
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkNodePolicy
metadata: {name: beyond, namespace: default}
spec: {resourceName: nics, nodeSelector: {}, numVfs: 4, nicSelector: {pfNames: ["ens1#0-9"]}}
---
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetwork
metadata: {name: typo, namespace: default}
spec: {resourceName: nics, vlann: 5}
`

// The commands of the page on upgrading name what is stricter here, in a cluster that has it,
// and nothing else.
func TestUpgradeCommandsNameWhatDiffers(t *testing.T) {
	kubectl, run := upgradeShell(t)
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	kinds := filepath.Join(checkout, "operator/config/crd")
	kubectl("", "apply", "-f", filepath.Join(checkout, "multus-shim/deploy/crd.yaml"))
	kubectl("", "apply", "-k", kinds)
	for _, kind := range []string{"sriovnetworknodepolicies", "sriovnetworks"} { // as lax as upstream's
		kubectl("", "wait", "--for=condition=Established", "crd/"+kind+".sriovnetwork.openshift.io")
		kubectl("", "patch", "crd", kind+".sriovnetwork.openshift.io", "--type=json", "-p",
			`[{"op":"replace","path":"/spec/versions/0/schema/openAPIV3Schema","value":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}]`)
	}
	store := filepath.Join(t.TempDir(), "objects.yaml")
	require.NoError(t, os.WriteFile(store, []byte(upstreams), 0o600))
	require.EventuallyWithT(t, func(t *assert.CollectT) { // the API server takes a moment over the kinds
		out, err := run("kubectl apply -f " + store)
		require.NoError(t, err, out)
	}, patience, time.Second)

	page, err := os.ReadFile(filepath.Join(checkout, "operator/docs/upgrade.md"))
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(page), "## What will mean something else\n")
	require.True(t, ok)
	block := regexp.MustCompile("(?s)```sh\n(.*?)```").FindStringSubmatch(section)
	commands := strings.Split(strings.TrimSpace(block[1]), "\n\n")
	require.Len(t, commands, 4, "networks, configurations of the device plugin, objects of the operator before and after")

	out, err := run(commands[0])
	assert.Error(t, err)
	assert.Contains(t, out, "default/capital: refused: invalid spoofchk")
	assert.Contains(t, out, "default/logs: its log is not written: logFile")
	assert.NotContains(t, out, "default/good")

	out, err = run(commands[1])
	assert.Error(t, err)
	assert.Contains(t, out, "excludeTopology")

	require.EventuallyWithT(t, func(t *assert.CollectT) { // kubectl gives up early on a busy machine
		out, err := run(commands[2])
		require.NoError(t, err, out)
	}, patience, time.Second)
	kubectl("", "apply", "-k", kinds)
	assert.EventuallyWithT(t, func(t *assert.CollectT) {
		out, err = run(commands[3])
		assert.Contains(t, out, "below numVfs")
		assert.Contains(t, out, "vlann")
	}, patience, time.Second)
	assert.NotContains(t, out, `"fine"`)
}

// patience is for an API server that takes over the schemas of changed kinds.
const patience = 5 * time.Minute

// upgradeShell is an API server, and a shell with kubectl for it and the programs that the
// page names.
func upgradeShell(t *testing.T) (kubectl func(input string, args ...string) string, run func(script string) (string, error)) {
	t.Helper()
	cp, kubectl := startPlane(t)
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, component.Programs(t.Context(), checkout, dir, "sriov", "sriovdp"))
	return kubectl, func(script string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "KUBECONFIG="+cp.Kubeconfig, "PATH="+dir+":"+cp.Programs+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}
