// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The same tree gives the same charts, and a bad version or tree leaves the charts that are
// there alone.
func TestBuild(t *testing.T) {
	t.Parallel()
	first, second := t.TempDir(), t.TempDir()
	require.NoError(t, build("../..", first, "v1.2.3", defaultRegistry))
	require.NoError(t, build("../..", second, "v1.2.3", defaultRegistry))
	archives, err := filepath.Glob(filepath.Join(first, "*-1.2.3.tgz"))
	require.NoError(t, err)
	require.Len(t, archives, 3)
	for _, a := range archives {
		one, err := os.ReadFile(a)
		require.NoError(t, err)
		other, err := os.ReadFile(filepath.Join(second, filepath.Base(a)))
		require.NoError(t, err)
		require.Equal(t, one, other)
	}
	chart, err := os.ReadFile(filepath.Join(first, "sriov-network-operator", "Chart.yaml"))
	require.NoError(t, err)
	require.Contains(t, string(chart), "version: 1.2.3\n")
	require.Contains(t, string(chart), "appVersion: v1.2.3\n")

	require.ErrorContains(t, build("../..", first, "1.2", defaultRegistry), `-version "1.2": want one such as v0.1.0`)
	require.ErrorContains(t, build(t.TempDir(), first, "v1.2.4", defaultRegistry), "sriov-network-operator-crds")
	require.ErrorContains(t, build("../..", first, "v1.2.4", "https://a"), `-registry "https://a": want one such as`)
	left, err := os.ReadDir(first)
	require.NoError(t, err)
	require.Len(t, left, 6)
}

// A release's charts take images from where the release put them.
func TestRegistry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, build("../..", dir, "v1.2.3", "registry.test:5000/a"))
	for file, want := range map[string]string{
		"sriov-network-operator/values.yaml": "  registry: registry.test:5000/a\n",
		"multus-shim/templates/_helpers.tpl": `"registry.test:5000/a/multus-shim:%s"`,
	} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		require.Contains(t, string(text), want)
	}
}

// A place that the manifests no longer have is an error, not a value without effect.
func TestDrift(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ file, from, to, want string }{
		"variable": {"operator/config/manager/deployment.yaml", "name: SRIOV_CNI_IMAGE", "name: ELSE", "no environment variable SRIOV_CNI_IMAGE"},
		"volume":   {"multus-shim/deploy/workload/daemonset.yaml", "name: cni-conf,", "name: cni,", "no volume cni-conf"},
		"object":   {"multus-shim/deploy/workload/daemonset.yaml", "kind: DaemonSet", "kind: Deployment", "DaemonSet/multus-shim is not in multus-shim/deploy any more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkout := t.TempDir()
			for _, dir := range []string{"operator/config", "operator/charts", "multus-shim/deploy", "multus-shim/charts"} {
				require.NoError(t, os.CopyFS(filepath.Join(checkout, dir), os.DirFS(filepath.Join("../..", dir))))
			}
			path := filepath.Join(checkout, tc.file)
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Contains(t, string(text), tc.from)
			require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(text), tc.from, tc.to)), 0o600))
			require.ErrorContains(t, build(checkout, t.TempDir(), "v1.0.0", defaultRegistry), tc.want)
		})
	}
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	o := &object{fields: map[string]any{"a": "{{ not a template }}", "namespace": "ns"}}
	o.fields["b"] = o.value(".Values.b")
	o.ifSet(o.fields, "c", ".Values.c")
	text, err := o.template("ns")
	require.NoError(t, err)
	require.Equal(t, `a: '{{ "{{" }} not a template }}'
b: {{ .Values.b | quote }}
namespace: {{ .Release.Namespace }}
{{- with .Values.c }}
c: {{- toYaml . | nindent 2 }}
{{- end }}
`, text)
}

// Who takes multus-shim away must not take the networks of all tenants along: the workload
// is all of deploy but their kind.
func TestWorkloadKeepsTheNetworks(t *testing.T) {
	t.Parallel()
	names := func(tree string) (all, kept []string) {
		objects, err := render(filepath.Join("../..", tree))
		require.NoError(t, err)
		for _, o := range objects {
			name := o.kind() + "/" + o.name()
			all = append(all, name)
			if !isCRD(o.kind()) {
				kept = append(kept, name)
			}
		}
		return all, kept
	}
	all, want := names("multus-shim/deploy")
	require.Contains(t, all, "CustomResourceDefinition/network-attachment-definitions.k8s.cni.cncf.io")
	got, _ := names("multus-shim/deploy/workload")
	require.Equal(t, want, got)
	require.Contains(t, got, "DaemonSet/multus-shim")
}
