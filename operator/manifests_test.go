// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/operator/internal/controlplane"
)

// render runs kustomize over a copy of config/ after an edit of its kustomization.yaml.
func render(t *testing.T, edit func(string) string) string {
	t.Helper()
	controlplane.Need(t)
	programs, err := controlplane.Programs(t.Context())
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("config")))
	path := filepath.Join(dir, "kustomization.yaml")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(edit(string(text))), 0o600))
	cmd := exec.Command(filepath.Join(programs, "kubectl"), "kustomize", dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	require.Empty(t, stderr.String(), "no warnings")
	return string(out)
}

// The edits are those that "kustomize edit set namespace" and "... set image" make.
func TestNamespaceAndImagesCanBeSet(t *testing.T) {
	const fixed = "\n  namespace: sriov-network-operator\n"
	require.Contains(t, render(t, func(s string) string { return s }), fixed)

	out := render(t, func(s string) string {
		return strings.Replace(s, "namespace: sriov-network-operator", "namespace: elsewhere", 1) + `
images:
- {name: sriovkit/operator, newName: registry.test/op, newTag: v1}
- {name: sriovkit/device-plugin, newName: registry.test/dp, newTag: v2}
- {name: sriovkit/sriov-cni, newName: registry.test/cni, digest: "sha256:` + strings.Repeat("0", 64) + `"}
`
	})
	require.NotContains(t, out, fixed, "accounts, roles and the subjects of bindings move along")
	require.NotContains(t, out, "serviceaccount:sriov-network-operator:")
	require.Regexp(t, `kind: Namespace\nmetadata:\n(  .*\n)*  name: elsewhere\n`, out)
	require.NotContains(t, out, "sriovkit/", "no image of the manifests is left")
	require.Equal(t, []string{
		"image: registry.test/op:v1",
		"value: registry.test/cni@sha256:" + strings.Repeat("0", 64), "value: registry.test/dp:v2", "value: registry.test/op:v1",
	}, slices.Sorted(slices.Values(regexp.MustCompile(`(?:image|value): registry.test\S+`).FindAllString(out, -1))))
}

// The optional components are added by an overlay, and move with its namespace.
func TestComponents(t *testing.T) {
	out := render(t, func(s string) string {
		return strings.Replace(s, "namespace: sriov-network-operator", "namespace: elsewhere", 1) + "components: [components/network-policy, components/monitoring, components/secure-metrics]\n"
	})
	for _, kind := range []string{"NetworkPolicy", "ServiceMonitor", "PrometheusRule", "PodDisruptionBudget"} {
		require.Regexp(t, `kind: `+kind+`\nmetadata:\n(  .*\n)*  namespace: elsewhere\n`, out)
	}
	require.NotContains(t, out, "namespace: sriov-network-operator\n")
	require.Regexp(t, `- args:\n        - operator\n        - -metrics-secure\n`, out)
	require.Regexp(t, `scheme: https\n`, out)
	for _, port := range []string{"443", "6443", "16443"} {
		require.Regexp(t, `egress:\n(    .*\n|  - .*\n)*    - port: `+port+`\n`, out, "the API server's")
	}
	require.Regexp(t, `name: sriov-network-operator-metrics-review\nroleRef:\n(.*\n)+?subjects:\n- kind: ServiceAccount\n  name: sriov-network-operator\n  namespace: elsewhere\n`, out)
	require.NotContains(t, render(t, func(s string) string { return s }), "monitoring.coreos.com")
}
