package cluster_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/cluster"
	"github.com/sriovkit/sriovkit/e2e/component"
)

// TestClusterMultusShim installs multus-shim with its own manifests and runs pods
// with two extra networks through kubelet and containerd.
func TestClusterMultusShim(t *testing.T) {
	k := start(t, cluster.Config{})
	installMultus(t, k)
	require.NoError(t, k.Apply(t.Context(), bridgeNAD("neta", "10.10.0.0/24")+bridgeNAD("netb", "10.11.0.0/24")))

	runSelecting(t, k, "three", `[{"name":"neta","default-route":["10.10.0.1"]},{"name":"netb","interface":"foo0"}]`)
	kubectl(t, k, "wait", "pod/three", "--for=condition=Ready", "--timeout=120s")
	addresses := kubectl(t, k, "exec", "three", "--", "ip", "-o", "-4", "addr")
	for ifname, address := range map[string]string{"eth0": "10.244.0.", "net1": "10.10.0.", "foo0": "10.11.0."} {
		assert.Regexp(t, ifname+` +inet `+address, addresses)
	}
	assert.Contains(t, kubectl(t, k, "exec", "three", "--", "ip", "route"), "default via 10.10.0.1 dev net1")
	var status []struct {
		Name, Interface string
		IPs             []string
		Default         bool
	}
	require.NoError(t, json.Unmarshal([]byte(networkStatus(t, k, "three")), &status))
	require.Len(t, status, 3)
	assert.Equal(t, []string{"bridge eth0 true", "default/neta net1 false", "default/netb foo0 false"}, []string{
		fmt.Sprint(status[0].Name, " ", status[0].Interface, " ", status[0].Default),
		fmt.Sprint(status[1].Name, " ", status[1].Interface, " ", status[1].Default),
		fmt.Sprint(status[2].Name, " ", status[2].Interface, " ", status[2].Default),
	})
	assert.Equal(t, status[0].IPs[0], kubectl(t, k, "get", "pod", "three", "-o", "jsonpath={.status.podIP}"),
		"the annotation's patch leaves the rest of the status alone")

	// The reason why a pod does not start is on the pod.
	runSelecting(t, k, "lost", "no-such-network")
	require.Eventually(t, func() bool {
		out, err := k.Kubectl(t.Context(), nil, "get", "events", "--field-selector", "involvedObject.name=lost,reason=NoNetworkFound", "-o", "jsonpath={.items[*].message}")
		return err == nil && strings.Contains(out, "default/no-such-network")
	}, time.Minute, 200*time.Millisecond)

	// The NADs go first: DEL needs neither them nor the API server.
	kubectl(t, k, "delete", "network-attachment-definitions", "neta", "netb")
	kubectl(t, k, "delete", "pod", "three", "lost", "--timeout=90s")
	for _, dir := range []string{"/var/lib/cni/networks/neta", "/var/lib/cni/networks/netb"} {
		out, err := k.Nodes[0].Output(t.Context(), "sh", "-c", "ls "+dir+" | grep ^10 || true")
		require.NoError(t, err)
		assert.Empty(t, out, "addresses that were not given back in %s", dir)
	}
	require.Eventually(t, func() bool {
		out, err := k.Nodes[0].Output(t.Context(), "sh", "-c", "cat /var/lib/cni/multus/records/* 2>/dev/null || true")
		return err == nil && !strings.Contains(out, `"net1"`)
	}, time.Minute, 200*time.Millisecond, "no record of the pods is left")
}

// installMultus applies the module's manifests with an image of its own build.
func installMultus(t *testing.T, k *cluster.Cluster) {
	t.Helper()
	dir := t.TempDir()
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	multus := component.All[slices.IndexFunc(component.All, func(c component.Component) bool { return c.Name == "multus-shim" })]
	require.NoError(t, component.Build(t.Context(), checkout, dir, component.Tag, multus))
	require.NoError(t, k.Import(t.Context(), multus.Archive(dir)))
	require.NoError(t, component.InstallMultus(t.Context(), k.Kubectl, checkout))
	// containerd notices the configuration on its own; the first pod that has a
	// status says that it did.
	for deadline := time.Now().Add(3 * time.Minute); ; {
		runPod(t, k, "first", "node1")
		status := networkStatus(t, k, "first")
		kubectl(t, k, "delete", "pod", "first", "--timeout=60s")
		if status != "" {
			return
		}
		require.Less(t, time.Now(), deadline, "pods still start without multus-shim")
	}
}

func networkStatus(t *testing.T, k *cluster.Cluster, pod string) string {
	t.Helper()
	return kubectl(t, k, "get", "pod", pod, "-o", `jsonpath={.metadata.annotations.k8s\.v1\.cni\.cncf\.io/network-status}`)
}

// runSelecting creates a pod with the networks annotation.
func runSelecting(t *testing.T, k *cluster.Cluster, name, networks string) {
	t.Helper()
	require.NoError(t, k.Apply(t.Context(), fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: %s
  annotations: {k8s.v1.cni.cncf.io/networks: '%s'}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: %s
    command: [sleep, infinity]
`, name, networks, cluster.BusyboxImage)))
}

func bridgeNAD(name, subnet string) string {
	return fmt.Sprintf(`
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: %s}
spec:
  config: '{"cniVersion":"1.0.0","type":"bridge","bridge":"br-%[1]s","isGateway":true,"ipam":{"type":"host-local","subnet":"%s"}}'
`, name, subnet)
}
