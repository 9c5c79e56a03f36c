// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	helmcmd "helm.sh/helm/v4/pkg/cmd"
	"sigs.k8s.io/yaml"

	"github.com/sriovkit/sriovkit/e2e/controlplane"
)

// charts makes the charts of a version and returns their directory.
func charts(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "go", "-C", "../charts", "run", ".", "-o", dir, "-version", version)
	return dir
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s %v: %s", name, args, stderr.String())
	return string(out)
}

// otherHelm is the path of another version's program that the tests are to run; empty is the
// version that go.mod has, in this process.
var otherHelm = os.Getenv("SRIOVKIT_HELM")

// helm runs Helm's command. It keeps settings in the environment, so tests do not run side by
// side.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	home := t.TempDir()
	for _, name := range []string{"HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"} {
		t.Setenv(name, home)
	}
	if args[0] == "template" || args[0] == "lint" {
		args = append(slices.Clone(args), "--kube-version", "v1.37.2") // a test's build knows none
	}
	var out bytes.Buffer
	if otherHelm != "" {
		cmd := exec.CommandContext(t.Context(), otherHelm, args...)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Run(); err != nil {
			return said.String(), errors.New(said.String())
		}
		return out.String(), nil
	}
	cmd, err := helmcmd.NewRootCmd(&out, args, func(bool) { slog.SetDefault(slog.New(slog.DiscardHandler)) })
	require.NoError(t, err)
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err = cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// objects decodes YAML documents by kind and name.
func objects(t *testing.T, text string) map[string]any {
	t.Helper()
	out := map[string]any{}
	for doc := range strings.SplitSeq("\n"+text, "\n---") {
		var o map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(doc), &o), doc)
		if len(o) > 0 {
			out[o["kind"].(string)+"/"+o["metadata"].(map[string]any)["name"].(string)] = o
		}
	}
	return out
}

// With the default values a chart is its kustomize tree.
func TestEqualToKustomize(t *testing.T) {
	controlplane.Need(t)
	programs, err := controlplane.Programs(t.Context(), io.Discard)
	require.NoError(t, err)
	dir := charts(t, "v0.0.0-dev")
	kubectl := filepath.Join(programs, "kubectl")

	want := objects(t, run(t, kubectl, "kustomize", "../../operator/config"))
	delete(want, "Namespace/sriov-network-operator") // helm --create-namespace, and its NOTES
	got, err := helm(t, "template", "r", filepath.Join(dir, "sriov-network-operator"), "-n", "sriov-network-operator", "--no-hooks")
	require.NoError(t, err, got)
	kinds, err := helm(t, "template", "r", filepath.Join(dir, "sriov-network-operator-crds"))
	require.NoError(t, err, kinds)
	requireSame(t, want, objects(t, got+"\n---\n"+kinds))

	want = objects(t, run(t, kubectl, "kustomize", "../../multus-shim/deploy"))
	got, err = helm(t, "template", "r", filepath.Join(dir, "multus-shim"), "-n", "kube-system")
	require.NoError(t, err, got)
	requireSame(t, want, objects(t, got))
}

// requireSame compares object by object, but for the annotation by which Helm leaves kinds
// alone, and a namespace that kubectl's kustomize gives kinds that have none.
func requireSame(t *testing.T, want, got map[string]any) {
	t.Helper()
	for key, o := range got {
		meta := o.(map[string]any)["metadata"].(map[string]any)
		if a, ok := meta["annotations"].(map[string]any); ok && strings.HasPrefix(key, "CustomResourceDefinition/") {
			require.Equal(t, "keep", a["helm.sh/resource-policy"], key)
			delete(a, "helm.sh/resource-policy")
			if len(a) == 0 {
				delete(meta, "annotations")
			}
		}
	}
	for key, o := range want {
		if strings.HasPrefix(key, "ValidatingAdmissionPolicy") {
			delete(o.(map[string]any)["metadata"].(map[string]any), "namespace")
		}
		require.Equal(t, o, got[key], key)
	}
	require.Len(t, got, len(want))
}

func TestLintAndPresets(t *testing.T) {
	dir := charts(t, "v1.2.3")
	for _, chart := range []string{"sriov-network-operator", "sriov-network-operator-crds", "multus-shim"} {
		out, err := helm(t, "lint", "--strict", filepath.Join(dir, chart))
		require.NoError(t, err, out)
	}
	presets, err := filepath.Glob(filepath.Join(dir, "*", "presets", "*.yaml"))
	require.NoError(t, err)
	require.Len(t, presets, 12)
	for _, preset := range presets {
		chart := filepath.Dir(filepath.Dir(preset))
		out, err := helm(t, "template", "r", chart, "-n", "ns", "-f", preset)
		require.NoError(t, err, out)
		var values struct {
			CNIBinPath  string `json:"cniBinPath"`
			CNIConfPath string `json:"cniConfPath"`
			KubeletPath string `json:"kubeletPath"`
			Operator    struct {
				CNIBinPath string            `json:"cniBinPath"`
				HostPaths  map[string]string `json:"hostPaths"`
			} `json:"operator"`
		}
		text, err := os.ReadFile(preset)
		require.NoError(t, err)
		require.NoError(t, yaml.Unmarshal(text, &values))
		paths := []string{values.CNIBinPath, values.CNIConfPath, values.KubeletPath, values.Operator.CNIBinPath}
		for _, path := range values.Operator.HostPaths {
			paths = append(paths, path)
		}
		for _, path := range paths {
			require.Contains(t, out, path, preset)
		}
	}
}

// A wrong value is refused with its place, before anything reaches a cluster.
func TestSchema(t *testing.T) {
	dir := charts(t, "v1.2.3")
	for set, want := range map[string]string{
		"operator.cniBinPath=opt/cni":                            "/operator/cniBinPath",
		"operator.replicas=many":                                 "/operator/replicas",
		"operator.resourcePrefix=a..b":                           "/operator/resourcePrefix",
		"operator.resourcePrefx=a":                               "resourcePrefx",
		"images.operator=has a blank":                            "/images/operator",
		"sriovOperatorConfig.featureGates.a=yes please":          "/sriovOperatorConfig/featureGates/a",
		"operator.metricsExporter.port=70000":                    "/operator/metricsExporter/port",
		"operator.admissionControllers.url=http://a:443":         "/operator/admissionControllers/url",
		"operator.admissionControllers.url=https://a b":          "/operator/admissionControllers/url",
		"operator.nameOverride=x":                                "/operator/nameOverride",
		"images.registry=https://registry.test/a":                "/images/registry",
		"images.sriovCni=https://registry.test/a:v1":             "/images/sriovCni",
		"operator.tolerations={all}":                             "/operator/tolerations/0",
		"operator.tolerations[0].efect=NoExecute":                "efect",
		"operator.extraEnv.A.valeFrom=x":                         "valeFrom",
		"operator.extraEnv[0].name=A":                            "/operator/extraEnv",
		"operator.externalDrainer=true":                          "/operator/externalDrainer",
		"operator.metricsBindAddress=8080":                       "/operator/metricsBindAddress",
		"operator.metricsBindAddress=:9443":                      "9443 that of the webhooks",
		"operator.tls.minVersion=1.2":                            "/operator/tls/minVersion",
		"operator.tls.cipherSuites=A;B":                          "/operator/tls/cipherSuites",
		"operator.admissionControllers.certificates.custom=true": "/operator/admissionControllers/certificates/custom",
		"imagePullSecrets={one,one}":                             "/imagePullSecrets",
	} {
		out, err := helm(t, "template", "r", filepath.Join(dir, "sriov-network-operator"), "--set", set)
		require.ErrorContains(t, err, want, set+": "+out)
	}
	for set, want := range map[string]string{"cniConfPath=etc": "/cniConfPath", "kubeletPath=kubelet": "/kubeletPath", "extraArgs={cleanup}": "/extraArgs/0", "imgae=a": "imgae", "image=https://a/b:c": "/image", "tolerations[0].effect=Never": "/tolerations/0/effect"} {
		out, err := helm(t, "template", "r", filepath.Join(dir, "multus-shim"), "--set", set)
		require.ErrorContains(t, err, want, set+": "+out)
	}
}

// startPlane starts an API server with controllers that ends with the test; kubectl returns
// what a command prints.
func startPlane(t *testing.T) (plane *controlplane.ControlPlane, kubectl func(args ...string) string) {
	t.Helper()
	controlplane.Need(t)
	plane, err := controlplane.Start(t.Context(), controlplane.Config{Log: io.Discard, Controllers: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, plane.Close()) })
	return plane, func(args ...string) string {
		t.Helper()
		out, err := plane.Kubectl(t.Context(), nil, args...)
		require.NoError(t, err, "%v: %s", args, out)
		return strings.TrimSpace(out)
	}
}

// On an API server: refused without its kinds and over what is somebody else's, installed,
// upgraded with its kinds, rolled back, uninstalled with nothing left but the kinds; not
// before the operator has left the nodes, unless that is asked for.
func TestLifecycle(t *testing.T) {
	plane, kubectl := startPlane(t)
	older, newer := charts(t, "v1.0.0"), charts(t, "v1.1.0")
	on := []string{"--kubeconfig", plane.Kubeconfig, "-n", "sriov-network-operator"}
	do := func(args ...string) error {
		out, err := helm(t, append(args, on...)...)
		return errors.Join(err, printed(err, out))
	}
	const chart, kinds = operatorChart, kindsChart
	before := inventory(kubectl)

	err := do("install", "op", filepath.Join(older, chart), "--create-namespace")
	require.ErrorContains(t, err, "install the chart sriov-network-operator-crds of the same version first")
	kubectl("create", "clusterrole", "sriov-network-operator", "--verb=get", "--resource=nodes")
	require.NoError(t, do("install", "kinds", filepath.Join(older, kinds), "--create-namespace"))
	kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
	err = do("install", "op", filepath.Join(older, chart))
	require.ErrorContains(t, err, "sriov-network-operator", "somebody else's ClusterRole")
	require.Empty(t, kubectl("-n", "sriov-network-operator", "get", "deployments", "-o", "name"), "nothing half-done")
	kubectl("delete", "clusterrole", "sriov-network-operator")

	require.NoError(t, do("upgrade", "--install", "op", filepath.Join(older, chart), "--set", "sriovOperatorConfig.deploy=true"))
	kubectl("-n", "sriov-network-operator", "apply", "-f", "../../operator/config/samples/policy.yaml")
	image := func() string {
		return kubectl("-n", "sriov-network-operator", "get", "deployment", chart, "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	}
	require.Equal(t, "sriovkit/operator:v1.0.0", image())

	// A kind that lost a field since is whole again after an upgrade.
	crd := "crd/sriovnetworknodepolicies.sriovnetwork.openshift.io"
	priority := "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.priority.type}"
	kubectl("patch", crd, "--type=json", "-p", `[{"op":"remove","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/priority"}]`)
	upgrade := []string{"upgrade", "kinds", filepath.Join(newer, kinds)}
	if help, err := helm(t, "upgrade", "--help"); err != nil || strings.Contains(help, "--force-conflicts") {
		upgrade = append(upgrade, "--force-conflicts") // Helm 4 applies on the server
	}
	require.NoError(t, do(upgrade...))
	require.Equal(t, "integer", kubectl("get", crd, "-o", priority))
	require.NoError(t, do("upgrade", "op", filepath.Join(newer, chart), "--reuse-values"))
	require.Equal(t, "sriovkit/operator:v1.1.0", image())
	require.NoError(t, do("upgrade", "op", filepath.Join(newer, chart)))
	require.NotEmpty(t, kubectl("-n", "sriov-network-operator", "get", "sriovoperatorconfig/default", "-o", "name"), "an upgrade that forgets values")
	require.NoError(t, do("rollback", "op", "1"))
	require.Equal(t, "sriovkit/operator:v1.0.0", image())

	// Nobody runs here who could take anything back: that is said, and all stays as it is.
	err = do("uninstall", "op", "--timeout", "2s")
	require.Error(t, err)
	if otherHelm == "" { // Helm 3 says no more than that it waited
		require.ErrorContains(t, err, "sriov-network-leave")
	}
	require.Equal(t, "sriovkit/operator:v1.0.0", image())
	require.NoError(t, do("uninstall", "op", "--no-hooks"))
	require.NoError(t, do("uninstall", "kinds"))
	require.Contains(t, kubectl("-n", "sriov-network-operator", "get", "sriovnetworknodepolicies", "-o", "name"), "nics", "what users made is kept")
	kubectl("delete", "crd", "-l", "app.kubernetes.io/managed-by=Helm")
	require.Equal(t, before, inventory(kubectl))
}

// Over upstream's release: refused while the kinds are somebody else's, then one release,
// with policies and nodes' states kept and nothing of upstream's own objects left in it.
func TestOverUpstream(t *testing.T) {
	plane, kubectl := startPlane(t)
	ours := charts(t, "v1.0.0")
	do := func(args ...string) error {
		out, err := helm(t, append(args, "--kubeconfig", plane.Kubeconfig, "-n", "sriov-network-operator")...)
		return errors.Join(err, printed(err, out))
	}
	theirs := upstreamChart(t, "upstream.test/all:1")
	require.NoError(t, os.WriteFile(filepath.Join(theirs, "templates", "config.yaml"), []byte("apiVersion: sriovnetwork.openshift.io/v1\nkind: SriovOperatorConfig\nmetadata: {name: default}\nspec: {disableDrain: true}\n"), 0o600))
	require.NoError(t, do("install", "sriov", theirs, "--create-namespace"))
	kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
	uid := kubectl("-n", "sriov-network-operator", "get", "sriovoperatorconfig/default", "-o", "jsonpath={.metadata.uid}")
	kubectl("-n", "sriov-network-operator", "apply", "-f", "../../operator/config/samples/policy.yaml")

	require.ErrorContains(t, do("install", "kinds", filepath.Join(ours, kindsChart)), "invalid ownership metadata")
	require.ErrorContains(t, do("install", "second", filepath.Join(ours, operatorChart)), "invalid ownership metadata")
	require.NotContains(t, kubectl("-n", "sriov-network-operator", "get", "deployments,serviceaccounts", "-o", "yaml"), "sriovkit/", "nothing half-done")

	kubectl("apply", "-f", "../../multus-shim/deploy/crd.yaml") // as Multus' manifests bring it
	require.ErrorContains(t, do("install", "multus", filepath.Join(ours, multusChart)), "invalid ownership metadata")
	require.NoError(t, do("install", "multus", filepath.Join(ours, multusChart), "--take-ownership"))
	require.NoError(t, do("install", "kinds", filepath.Join(ours, kindsChart), "--take-ownership"))
	require.ErrorContains(t, do("upgrade", "sriov", filepath.Join(ours, operatorChart)), "would be deleted")
	require.NotContains(t, kubectl("-n", "sriov-network-operator", "get", "deployments,serviceaccounts", "-o", "yaml"), "sriovkit/", "nothing half-done")
	require.NoError(t, do("upgrade", "sriov", filepath.Join(ours, operatorChart), "--set", "sriovOperatorConfig.deploy=true,sriovOperatorConfig.disableDrain=true"))
	require.Equal(t, uid+" true", kubectl("-n", "sriov-network-operator", "get", "sriovoperatorconfig/default", "-o", "jsonpath={.metadata.uid} {.spec.disableDrain}"))
	require.NoError(t, do("upgrade", "sriov", filepath.Join(ours, operatorChart), "--reset-values"), "what is kept is not asked about again")
	require.Equal(t, uid, kubectl("-n", "sriov-network-operator", "get", "sriovoperatorconfig/default", "-o", "jsonpath={.metadata.uid}"))
	pod := "jsonpath={.spec.template.spec.containers[*].image} {.spec.selector.matchLabels}"
	require.Equal(t, `sriovkit/operator:v1.0.0 {"name":"sriov-network-operator"}`, kubectl("-n", "sriov-network-operator", "get", "deployment", operatorChart, "-o", pod))
	require.Contains(t, kubectl("-n", "sriov-network-operator", "get", "sriovnetworknodepolicies", "-o", "name"), "nics")
	require.NotContains(t, kubectl("get", "clusterroles,clusterrolebindings", "-o", "name"), "operator-webhook")
	require.NotContains(t, kubectl("-n", "sriov-network-operator", "get", "configmaps", "-o", "name"), "supported-nic-ids")
}

// printed is what Helm printed before an error, as one.
func printed(err error, out string) error {
	if err == nil {
		return nil
	}
	return errors.New(out)
}

// inventory lists the objects of the cluster's scope that a chart might leave.
func inventory(kubectl func(...string) string) []string {
	var out []string
	for line := range strings.Lines(kubectl("get", "-o", "name",
		"clusterroles,clusterrolebindings,crd,validatingadmissionpolicies,validatingadmissionpolicybindings,mutatingwebhookconfigurations,validatingwebhookconfigurations")) {
		out = append(out, strings.TrimSpace(line))
	}
	sort.Strings(out)
	return out
}
