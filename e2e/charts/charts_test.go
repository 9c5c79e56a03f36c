// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
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
	schema, err := os.ReadFile("../../operator/charts/sriov-network-operator/values.schema.json")
	require.NoError(t, err)
	require.Contains(t, string(schema), `"pattern": "`+registryName.String()+`"`, "what a chart can be made for can be said in its values")
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
namespace: {{ .Release.Namespace | quote }}
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

// Paths of nodes and ports are what an API server takes: of others it would be said only when
// half of a release is there, or by the operator later.
func TestSchemasOfPathsAndPorts(t *testing.T) {
	t.Parallel()
	good := map[string][]string{
		"path": {"/opt/cni/bin", "/opt/cni/bin/", "/var/lib/rancher/k3s/data/.cni", "/a..b/..c/d.", "/x"},
		"port": {"1", "9110", "65535"},
	}
	bad := map[string][]string{
		"path": {"/", "opt/cni", "/opt/../etc", "/..", "/opt/..", "/opt/./cni", "/opt cni", "/opt\ncni", "/opt\tcni"},
		"port": {"0", "65536", "99999", "080", "x", ""},
	}
	seen := map[string]int{}
	var walk func(where string, of map[string]any)
	walk = func(where string, of map[string]any) {
		kind := ""
		if text, _ := of["description"].(string); strings.HasPrefix(text, "an absolute path") {
			kind = "path"
		} else if of["maximum"] == float64(65535) {
			kind = "port"
		}
		if kind != "" {
			seen[kind]++
			pattern := regexp.MustCompile(of["pattern"].(string))
			for _, s := range good[kind] {
				require.Regexp(t, pattern, s, where)
			}
			for _, s := range bad[kind] {
				require.NotRegexp(t, pattern, s, where)
			}
		}
		for name, inner := range of {
			if m, ok := inner.(map[string]any); ok {
				walk(where+"/"+name, m)
			}
		}
	}
	for _, file := range []string{"../../operator/charts/sriov-network-operator/values.schema.json", "../../multus-shim/charts/multus-shim/values.schema.json"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var schema map[string]any
		require.NoError(t, json.Unmarshal(text, &schema))
		walk("", schema)
	}
	require.Equal(t, map[string]int{"path": 8, "port": 1}, seen)
}

// What the charts have beside their trees: kinds that Helm leaves alone, logins for every
// account, objects that only a value asks for, values in place of fields.
func TestWhatChartsAdd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, build("../..", dir, "v1.2.3", defaultRegistry))
	documents := func(chart, file string) []string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, chart, "templates", file))
		require.NoError(t, err)
		return strings.Split(string(text), "---\n")
	}
	for _, crd := range append(documents("sriov-network-operator-crds", "generated/customresourcedefinition.yaml"), documents("multus-shim", "generated/customresourcedefinition.yaml")...) {
		require.Contains(t, crd, "    helm.sh/resource-policy: keep\n")
	}
	var accounts []string
	for _, chart := range []string{"sriov-network-operator", "multus-shim"} {
		for _, account := range documents(chart, "generated/serviceaccount.yaml") {
			require.Contains(t, account, "{{- with .Values.imagePullSecrets }}")
			accounts = append(accounts, regexp.MustCompile(`(?m)^  name: (.*)$`).FindStringSubmatch(account)[1])
		}
	}
	openshift := documents("sriov-network-operator", "openshift.yaml")
	require.Len(t, openshift, 2)
	onNodes, nonroot := openshift[0]+documents("multus-shim", "openshift.yaml")[0], openshift[1]
	for _, account := range append(accounts, "sriov-network-leave") {
		ours := account == "sriov-network-operator" || account == "sriov-network-leave"
		require.Equal(t, !ours, strings.Contains(onNodes, "name: "+account+","), "%s works on nodes, and may on OpenShift", account)
		require.Equal(t, ours, strings.Contains(nonroot, "name: "+account+","), "%s has a user that OpenShift did not choose", account)
	}
	for _, file := range []string{"servicemonitor.yaml", "prometheusrule.yaml", "networkpolicy.yaml"} {
		for _, doc := range documents("sriov-network-operator", "generated/"+file) {
			require.Regexp(t, `^{{- if \.Values\..*\.enabled }}\n(?s:.*){{- end }}\n$`, doc)
		}
	}
	daemonset := documents("multus-shim", "generated/daemonset.yaml")[0]
	for _, value := range []string{"tolerations", "affinity", "nodeSelector", "resources", "cniBinPath", "cniConfPath"} {
		require.Contains(t, daemonset, ".Values."+value)
	}
	// Whoever takes the operator back runs where it may run.
	deployment := documents("sriov-network-operator", "generated/deployment.yaml")[0]
	leave := documents("sriov-network-operator", "leave.yaml")
	for _, key := range []string{"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"} {
		require.Contains(t, leave[len(leave)-1], "- {key: "+key+", operator: Exists, effect: NoSchedule}")
	}
	require.Contains(t, leave[len(leave)-1], "activeDeadlineSeconds:", "nobody may wait for it any more")
	require.Equal(t, 2, strings.Count(deployment, "effect: NoSchedule"), "those of leave.yaml are as many")
}

// A registry that a chart names elsewhere, too, would be a value without effect.
func TestRegistryIsNamedOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := source{registry: place{"values.yaml", "registry: sriovkit\n"}}
	for text, fails := range map[string]bool{"registry: sriovkit\n": false, "registry: sriovkit\nregistry: sriovkit\n": true, "image: x\n": true} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "values.yaml"), []byte(text), 0o600))
		err := s.setRegistry(dir, "registry.test/a")
		require.Equal(t, fails, err != nil, text)
	}
}
