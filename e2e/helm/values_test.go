// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// upstreamValues are what a user of the upstream chart may have: its names, its types, its
// defaults where they differ in kind from those here.
const upstreamValues = `
operator:
  metricsBindAddress: ""
  tolerations: [{operator: Exists}]
  nodeSelector: {a: b}
  extraEnv: {X: "Y", NUMBER: 12345678, FLAG: true}
  tls: {cipherSuites: "TLS_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", minVersion: VersionTLS12, curvePreferences: "X25519,secp256r1"}
  nameOverride: ""
  fullnameOverride: ""
  resourcePrefix: intel.com
  cniBinPath: /cni
  clusterType: kubernetes
  staleNodeStateCleanupDelayMinutes: "20"
  metricsExporter:
    port: "9200"
    certificates: {secretName: metrics-exporter-cert}
    prometheusOperator: {enabled: true, serviceAccount: prometheus-k8s, namespace: monitoring, deployRules: true}
  externalDrainer: {enabled: true}
  admissionControllers:
    enabled: true
    networkPolicy: {operator: {port: "6443"}, injector: {port: "6443"}}
    certificates:
      secretNames: {operator: operator-webhook-cert, injector: network-resources-injector-cert}
      certManager: {enabled: true, generateSelfSigned: true}
      custom: {enabled: false}
sriovOperatorConfig:
  deploy: true
  configDaemonNodeSelector: {sriov: true}
  logLevel: 2
  disableDrain: true
  configurationMode: daemon
  disablePlugins: [mellanox]
  featureGates: {metricsExporter: true}
  configDaemonEnvVars: {A: 1}
supportedExtraNICs: ['MyNIC: "8086 1521 1520"']
images:
  sriovCni: registry.test/cni:v9
  ibSriovCni: registry.test/ib:v1
  webhook: registry.test/unused:v1
  resourcesInjector: registry.test/unused:v1
  metricsExporter: registry.test/unused:v1
  metricsExporterKubeRbacProxy: registry.test/unused:v1
imagePullSecrets: [one, two]
extraDeploy:
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: first, namespace: "{{ .Release.Namespace }}"}}
  - |
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: second}
`

// The values of the upstream chart mean here what they mean there.
func TestUpstreamValues(t *testing.T) {
	file := filepath.Join(t.TempDir(), "values.yaml")
	require.NoError(t, os.WriteFile(file, []byte(upstreamValues), 0o600))
	out, err := helm(t, "template", "r", filepath.Join(charts(t, "v1.2.3"), operatorChart), "-n", "elsewhere", "-f", file)
	require.NoError(t, err, out)
	require.NotContains(t, out, "unused")
	all := objects(t, out)
	pod, container, env := operatorPod(all)
	require.Equal(t, map[string]any{"a": "b"}, pod["nodeSelector"])
	require.Equal(t, []any{map[string]any{"operator": "Exists"}}, pod["tolerations"])
	require.Equal(t, "sriovkit/operator:v1.2.3", container["image"])
	require.Equal(t, []any{"operator"}, container["args"])
	for name, want := range map[string]string{
		"SRIOV_CNI_IMAGE": "registry.test/cni:v9", "SRIOV_INFINIBAND_CNI_IMAGE": "registry.test/ib:v1", "SRIOV_DEVICE_PLUGIN_IMAGE": "sriovkit/device-plugin:v1.2.3",
		"IMAGE_PULL_SECRETS": "one,two", "RESOURCE_PREFIX": "intel.com", "SRIOV_CNI_BIN_PATH": "/cni", "METRICS_EXPORTER_PORT": "9200",
		"USE_EXTERNAL_DRAINER": "true", "CREATE_DEFAULT_CONFIG": "false", "STALE_NODE_STATE_CLEANUP_DELAY_MINUTES": "20",
		"X": "Y", "NUMBER": "12345678", "FLAG": "true",
		"TLS_MIN_VERSION": "VersionTLS12", "TLS_CIPHER_SUITES": "TLS_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_CURVE_PREFERENCES": "X25519,secp256r1",
	} {
		require.Equal(t, want, env[name], name)
	}
	config := all["SriovOperatorConfig/default"].(map[string]any)
	require.Equal(t, "elsewhere", config["metadata"].(map[string]any)["namespace"])
	require.Equal(t, map[string]any{
		"enableInjector": true, "enableOperatorWebhook": true, "logLevel": float64(2), "disableDrain": true, "useCDI": false,
		"configurationMode": "daemon", "disablePlugins": []any{"mellanox"}, "featureGates": map[string]any{"metricsExporter": true},
		"configDaemonNodeSelector": map[string]any{"kubernetes.io/os": "linux", "sriov": "true"}, "configDaemonEnvVars": map[string]any{"A": "1"},
	}, config["spec"])
	require.Equal(t, "elsewhere", all["ConfigMap/first"].(map[string]any)["metadata"].(map[string]any)["namespace"])
	require.Contains(t, all, "ConfigMap/second")
	for _, monitor := range []string{"ServiceMonitor/sriov-network-operator", "ServiceMonitor/sriov-network-metrics-exporter", "PrometheusRule/sriov-network-operator"} {
		require.Contains(t, all, monitor)
	}
}

// operatorPod is the operator's pod, its container and the latter's environment.
func operatorPod(all map[string]any) (pod, container, env map[string]any) {
	spec := all["Deployment/sriov-network-operator"].(map[string]any)["spec"].(map[string]any)
	pod = spec["template"].(map[string]any)["spec"].(map[string]any)
	container = pod["containers"].([]any)[0].(map[string]any)
	env = map[string]any{}
	for _, e := range container["env"].([]any) {
		entry := e.(map[string]any)
		env[entry["name"].(string)] = entry["value"]
		if from, ok := entry["valueFrom"]; ok {
			env[entry["name"].(string)] = from
		}
	}
	return pod, container, env
}

// Images of upstream's, as an upgrade that reuses all values would have them, never run by
// these manifests.
func TestUpstreamImages(t *testing.T) {
	chart := filepath.Join(charts(t, "v1.2.3"), operatorChart)
	for set, ours := range map[string]bool{
		"images.operator=ghcr.io/k8snetworkplumbingwg/sriov-network-operator":                        false,
		"images.operator=mirror.test:5000/sriov-network-operator:v1.6.0":                             false,
		"images.sriovConfigDaemon=ghcr.io/k8snetworkplumbingwg/sriov-network-operator-config-daemon": false,
		"images.sriovDevicePlugin=ghcr.io/k8snetworkplumbingwg/sriov-network-device-plugin:v3.9":     false,
		"images.sriovCni=ghcr.io/k8snetworkplumbingwg/sriov-cni":                                     false,
		"images.sriovCni=mirror.test/sriov-cni:v1.0.0":                                               true,
		"images.ibSriovCni=ghcr.io/k8snetworkplumbingwg/ib-sriov-cni":                                true,
		"images.operator=mirror.test/sriov-network-operator/operator:v1":                             true,
		"images.webhook=ghcr.io/k8snetworkplumbingwg/sriov-network-operator-webhook":                 true,
		"images.resourcesInjector=ghcr.io/k8snetworkplumbingwg/network-resources-injector":           true,
	} {
		out, err := helm(t, "template", "r", chart, "--set", set)
		if ours {
			require.NoError(t, err, set+": "+out)
			continue
		}
		require.ErrorContains(t, err, "is an image of the upstream project", set+": "+out)
		require.ErrorContains(t, err, "--reset-then-reuse-values", set)
	}
	// --reuse-values brings upstream's defaults in the place of the chart's own, too.
	text, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	require.NoError(t, err)
	reused := strings.NewReplacer("  registry: sriovkit\n", "", `operator: ""`, "operator: ghcr.io/k8snetworkplumbingwg/sriov-network-operator", "openshift:\n", "global:\n").Replace(string(text))
	require.NoError(t, os.WriteFile(filepath.Join(chart, "values.yaml"), []byte(reused), 0o600))
	out, err := helm(t, "template", "r", chart)
	require.ErrorContains(t, err, "is an image of the upstream project", out)
}

// A value that is null, or that the values of another version lack, is as if it was not said,
// or is named.
func TestMissingValues(t *testing.T) {
	dir := charts(t, "v1.2.3")
	const named = "is missing: it was set to null"
	for chart, missing := range map[string]string{operatorChart: named, multusChart: "missing property"} {
		chart = filepath.Join(dir, chart)
		text, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
		require.NoError(t, err)
		var values map[string]any
		require.NoError(t, yaml.Unmarshal(text, &values))
		refused := 0
		for _, path := range paths("", values) {
			out, err := helm(t, "template", "r", chart, "--set", "sriovOperatorConfig.deploy=true", "--set", path+"=null")
			if filepath.Base(chart) == multusChart {
				out, err = helm(t, "template", "r", chart, "--set", path+"=null")
			}
			if err != nil {
				require.ErrorContains(t, err, missing, path)
				refused++
				continue
			}
			require.NotContains(t, out, "nil>", path)
			require.NotRegexp(t, `(path|value|enable[A-Za-z]+|replicas):\s*\n`, out, path)
		}
		require.NotZero(t, refused, chart)
	}
}

// paths names all values of a chart that are not null, sections and what is in them.
func paths(of string, values map[string]any) []string {
	var out []string
	for name, value := range values {
		path := of + strings.ReplaceAll(name, ".", `\.`)
		if value != nil {
			out = append(out, path)
		}
		if section, ok := value.(map[string]any); ok {
			out = append(out, paths(path+".", section)...)
		}
	}
	return out
}

// Charts of one parent see each other's named templates.
func TestOneParent(t *testing.T) {
	dir := charts(t, "v1.2.3")
	parent := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(parent, "Chart.yaml"), []byte("{apiVersion: v2, name: parent, version: 1.0.0}\n"), 0o600))
	for _, chart := range []string{operatorChart, multusChart} {
		require.NoError(t, os.CopyFS(filepath.Join(parent, "charts", chart), os.DirFS(filepath.Join(dir, chart))))
	}
	out, err := helm(t, "template", "r", parent)
	require.NoError(t, err, out)
	for _, image := range []string{"sriovkit/operator:v1.2.3", "sriovkit/multus-shim:v1.2.3"} {
		require.Contains(t, out, `image: "`+image+`"`)
	}
}

// A variable is there once, whoever sets it, and extraEnv has the last word.
func TestExtraEnv(t *testing.T) {
	out, err := helm(t, "template", "r", filepath.Join(charts(t, "v1.2.3"), operatorChart),
		"--set-string", "operator.extraEnv.CREATE_DEFAULT_CONFIG=false,operator.extraEnv.IMAGE_PULL_SECRETS=two,imagePullSecrets={one}")
	require.NoError(t, err, out)
	_, container, env := operatorPod(objects(t, out))
	require.Equal(t, []any{"false", "two"}, []any{env["CREATE_DEFAULT_CONFIG"], env["IMAGE_PULL_SECRETS"]})
	require.Len(t, container["env"], len(env))
}

// What YAML would take for something else than a text.
func TestAmbiguousTexts(t *testing.T) {
	dir := charts(t, "v1.2.3")
	file := filepath.Join(t.TempDir(), "values.yaml")
	require.NoError(t, os.WriteFile(file, []byte("{operator: {staleNodeStateCleanupDelayMinutes: 1000000}, openshift: {scc: true}, sriovOperatorConfig: {deploy: true}}\n"), 0o600))
	out, err := helm(t, "template", "r", filepath.Join(dir, operatorChart), "-n", "123", "-f", file)
	require.NoError(t, err, out)
	require.NotContains(t, out, "namespace: 123")
	require.Contains(t, out, `namespace: "123"`)
	_, _, env := operatorPod(objects(t, out))
	require.Equal(t, "1000000", env["STALE_NODE_STATE_CLEANUP_DELAY_MINUTES"])
	out, err = helm(t, "template", "r", filepath.Join(dir, operatorChart), "--set-string", "operator.staleNodeStateCleanupDelayMinutes=036")
	require.NoError(t, err, out)
	_, _, env = operatorPod(objects(t, out))
	require.Equal(t, "036", env["STALE_NODE_STATE_CLEANUP_DELAY_MINUTES"], "36, and not 30 in octal")
	out, err = helm(t, "template", "r", filepath.Join(dir, multusChart), "-n", "123", "--set", "openshift.scc=true")
	require.NoError(t, err, out)
	require.NotContains(t, out, "namespace: 123")
}

// Values that only this chart has.
func TestOwnValues(t *testing.T) {
	dir := charts(t, "v1.2.3")
	out, err := helm(t, "template", "r", filepath.Join(dir, operatorChart), "-n", "elsewhere",
		"--set", "operator.metricsBindAddress=127.0.0.1:9090,operator.extraEnv.X.valueFrom.fieldRef.fieldPath=metadata.name",
		"--set", "networkPolicy.enabled=true,openshift.scc=true,sriovOperatorConfig.deploy=true,operator.admissionControllers.enabled=true",
		"--set", "sriovOperatorConfig.enableInjector=false",
		"--set", "operator.metricsExporter.prometheusOperator.enabled=true,operator.metricsExporter.prometheusOperator.labels.release=prom,operator.dashboard.enabled=true")
	require.NoError(t, err, out)
	require.NotContains(t, out, "sriov-network-operator\n  namespace: sriov-network-operator")
	all := objects(t, out)
	_, container, env := operatorPod(all)
	require.Equal(t, []any{"operator", "-metrics-bind-address=127.0.0.1:9090"}, container["args"])
	require.Contains(t, container["ports"], map[string]any{"name": "metrics", "containerPort": float64(9090)})
	require.Equal(t, map[string]any{"fieldRef": map[string]any{"fieldPath": "metadata.name"}}, env["X"])
	spec := all["SriovOperatorConfig/default"].(map[string]any)["spec"].(map[string]any)
	require.Equal(t, []any{false, true}, []any{spec["enableInjector"], spec["enableOperatorWebhook"]})
	require.Contains(t, all, "NetworkPolicy/sriov-network-operator")
	for _, monitor := range []string{"ServiceMonitor/sriov-network-operator", "ServiceMonitor/sriov-network-metrics-exporter", "PrometheusRule/sriov-network-operator"} {
		require.Contains(t, all, monitor)
		require.Equal(t, map[string]any{"release": "prom"}, all[monitor].(map[string]any)["metadata"].(map[string]any)["labels"])
	}
	require.Contains(t, out, "policy {{ $labels.policy }} is not ready", "Prometheus' templates are left to it")
	dashboard := all["ConfigMap/sriov-network-dashboard"].(map[string]any)["data"].(map[string]any)["sriov-network.json"].(string)
	written, err := os.ReadFile("../../operator/config/components/monitoring/dashboard.json")
	require.NoError(t, err)
	require.Equal(t, string(written), dashboard)
	require.Contains(t, all, "RoleBinding/sriov-network-privileged")
	nonroot := all["RoleBinding/sriov-network-nonroot"].(map[string]any)["subjects"].([]any)
	require.Len(t, nonroot, 2, "whose pods have a user that OpenShift did not choose")
}
