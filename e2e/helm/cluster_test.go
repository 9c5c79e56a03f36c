// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/cluster"
	"github.com/sriovkit/sriovkit/e2e/component"
)

const nics = "openshift.io/nics"

// policyAndNetwork ask for four VFs of the first port, and give pods one in a VLAN.
const policyAndNetwork = `
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkNodePolicy
metadata: {name: nics, namespace: sriov-network-operator}
spec:
  resourceName: nics
  nodeSelector: {kubernetes.io/os: linux}
  nicSelector: {rootDevices: ["0000:01:00.0"]}
  numVfs: 4
  deviceType: netdevice
---
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetwork
metadata: {name: red, namespace: sriov-network-operator}
spec:
  networkNamespace: default
  resourceName: nics
  vlan: 100
  ipam: '{"type": "host-local", "ranges": [[{"subnet": "10.56.0.0/16"}]]}'
`

// A cluster that reaches nothing goes from upstream's release to a version of ours that a
// bundle brought into a registry of the site's own (the sources here, or the commit
// $SRIOVKIT_FROM), to the next one, brought onto the node itself, and back, under a pod that keeps its VF. At the end nothing of either is left.
func TestClusterCharts(t *testing.T) {
	cluster.Need(t)
	s := newSite(t, cluster.Config{})
	older, olderCharts := s.bundle("v1.0.0", s.sources(os.Getenv("SRIOVKIT_FROM")))
	newer, newerCharts := s.bundle("v1.1.0", s.sources(""))
	registry := s.loadIntoRegistry(older)
	require.NoError(t, s.Import(s.ctx, newer))
	onNode := s.nodeFiles()
	before := inventory(s.kubectl)

	s.mustHelm("install", "sriov", upstreamChart(t, cluster.BusyboxImage), "--create-namespace")
	require.NoError(t, s.Apply(s.ctx, policyAndNetwork))

	_, err := s.helm("install", "kinds", filepath.Join(olderCharts, kindsChart), "-n", component.Namespace)
	require.ErrorContains(t, err, "invalid ownership metadata", "kinds that are somebody else's")
	s.mustHelm("install", "kinds", filepath.Join(olderCharts, kindsChart), "--take-ownership")
	s.mustHelm("install", "multus", filepath.Join(olderCharts, multusChart), "--set", "image="+registry+"/multus-shim:v1.0.0")
	s.mustHelm("upgrade", "sriov", filepath.Join(olderCharts, operatorChart), "--set", "images.registry="+registry)
	s.settled(registry+"/operator:v1.0.0", registry+"/device-plugin:v1.0.0", registry+"/multus-shim:v1.0.0")
	s.offered(nics, "4")
	s.start("old", "red", nics)
	id := s.get("pod", "old", "-o", "jsonpath={.status.containerStatuses[0].containerID}")
	vf := s.kubectl("exec", "old", "--", "readlink", "/sys/class/net/net1/device")
	same := func() {
		t.Helper()
		require.Equal(t, id, s.get("pod", "old", "-o", "jsonpath={.status.containerStatuses[0].containerID}"))
		require.Equal(t, vf, s.kubectl("exec", "old", "--", "readlink", "/sys/class/net/net1/device"))
	}

	upgrade := func() {
		t.Helper()
		t.Log("upgrade")
		s.mustHelm("upgrade", "kinds", filepath.Join(newerCharts, kindsChart))
		s.mustHelm("upgrade", "multus", filepath.Join(newerCharts, multusChart), "--set", "image=sriovkit/multus-shim:v1.1.0")
		s.mustHelm("upgrade", "sriov", filepath.Join(newerCharts, operatorChart), "--set", "images.registry=sriovkit")
		s.settled("sriovkit/operator:v1.1.0", "sriovkit/device-plugin:v1.1.0", "sriovkit/multus-shim:v1.1.0")
	}
	upgrade()
	same()
	s.offered(nics, "4")
	s.start("new", "red", nics)

	t.Log("rollback")
	s.mustHelm("rollback", "sriov", "2") // 1 was upstream's
	s.mustHelm("rollback", "multus", "1")
	s.mustHelm("rollback", "kinds", "1")
	s.settled(registry+"/operator:v1.0.0", registry+"/device-plugin:v1.0.0", registry+"/multus-shim:v1.0.0")
	same()
	require.Contains(t, s.node("/opt/cni/bin/sriov -version; /opt/cni/bin/multus-shim -version"), "v1.0.0")
	s.kubectl("delete", "pod", "old", "new", "--timeout="+patience.String())
	s.until("the VFs are back on the node, without their VLANs", func() bool {
		return s.node(`ls -d /sys/bus/pci/devices/0000:01:00.0/virtfn*/net/* 2>/dev/null | wc -l
			ip link show dev $(ls /sys/bus/pci/devices/0000:01:00.0/net) | grep -c vlan || true`) == "4\n0\n"
	})

	upgrade()
	s.uninstalled()
	require.Equal(t, before, inventory(s.kubectl))
	require.Equal(t, onNode, s.nodeFiles())
}

// uninstalled takes all releases away, as operator/docs/uninstall.md says.
func (s *site) uninstalled() {
	s.Helper()
	s.Log("uninstall")
	s.kubectl("-n", component.Namespace, "delete", "--timeout="+patience.String(), "sriovnetworknodepolicies,sriovnetworks", "--all")
	s.until("no VFs", func() bool { return s.node("cat /sys/bus/pci/devices/0000:01:00.0/sriov_numvfs") == "0\n" })
	s.kubectl("-n", component.Namespace, "scale", "deployment/sriov-network-operator", "--replicas=0")
	require.ErrorContains(s, s.uninstallInVain(), "no operator runs in namespace", "without an operator nothing is removed")
	s.kubectl("-n", component.Namespace, "scale", "deployment/sriov-network-operator", "--replicas=2")
	for _, release := range []string{"sriov", "kinds", "multus"} {
		s.mustHelm("uninstall", release, "--wait", "--timeout", patience.String())
	}
	// Pods of DaemonSets end after these are gone.
	s.until("nothing in the namespace", func() bool { return s.get("all,roles,rolebindings", "-n", component.Namespace, "-o", "name") == "" })
	s.kubectl("delete", "crd", "-l", "app.kubernetes.io/managed-by=Helm", "--timeout="+patience.String())
	s.kubectl("delete", "namespace", component.Namespace, "--timeout="+patience.String())
	require.NotContains(s, s.kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata}"), "sriov")
	s.until("the primary network is alone", func() bool { return s.node("ls -A /etc/cni/net.d") == "10-bridge.conflist\n" })
	require.Contains(s, s.node("cat /etc/sriov-operator/device-plugin/config.json"), `"resourceList": []`)
}

// uninstallInVain is the error of an uninstallation that cannot end. It is given more time
// while its pod has not begun by then.
func (s *site) uninstallInVain() error {
	for timeout := 30 * time.Second; ; timeout *= 2 {
		_, err := s.helm("uninstall", "sriov", "-n", component.Namespace, "--timeout", timeout.String())
		if err == nil || timeout > patience || !strings.Contains(err.Error(), "failed to stream pod logs") {
			return err
		}
	}
}

// nodeFiles lists what an installation might leave on the node and that would do something
// there: sockets, configurations, rules and records. operator/docs/uninstall.md tells what stays:
// the CNI plugins, for pods that may have something to give back, files that were locked,
// multus-shim's records of pods that ended after it, a list without resources.
func (s *site) nodeFiles() string {
	s.Helper()
	return s.node(`find /etc/cni/net.d /etc/sriov-operator /etc/udev/rules.d /etc/modprobe.d /var/run/cdi /var/run/k8s.cni.cncf.io \
		/var/lib/kubelet/plugins_registry /var/lib/kubelet/device-plugins /var/lib/cni/sriov /var/lib/cni/multus -not -type d 2>/dev/null |
		grep -v -e kubelet.sock -e kubelet_internal_checkpoint -e sriov/pci/vf_lock/ -e multus/locks/containers \
			-e multus/records/ -e multus/results/ -e sriov-operator/device-plugin/config.json | sort || true`)
}

// upstreamChart is a chart as upstream's operator has one, as far as names, selectors,
// rights and its place of the kinds go; its pods sleep.
func upstreamChart(t *testing.T, image string) string {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"crds", "templates"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	kinds, err := filepath.Glob("../../operator/config/crd/sriovnetwork*.yaml")
	require.NoError(t, err)
	require.Len(t, kinds, 7)
	for _, kind := range kinds {
		text, err := os.ReadFile(kind)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "crds", filepath.Base(kind)), text, 0o600))
	}
	text, err := os.ReadFile("../../operator/internal/controller/testdata/upstream/installation.yaml")
	require.NoError(t, err)
	var docs []string
	for doc := range strings.SplitSeq(string(text), "---\n") {
		if !strings.Contains(doc, "kind: Namespace") && !strings.Contains(doc, "network-resources-injector") {
			docs = append(docs, sleeping(doc, image))
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "templates", "all.yaml"), []byte(strings.Join(docs, "---\n")), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Chart.yaml"), []byte("{apiVersion: v2, name: sriov-network-operator, version: 1.5.0}\n"), 0o600))
	return dir
}

// sleeping replaces programs by one that is on every node.
func sleeping(doc, image string) string {
	doc = strings.NewReplacer("upstream.test/daemon:1", image, "upstream.test/operator:1", image).Replace(doc)
	doc = strings.ReplaceAll(doc, "command: [sriov-network-config-daemon]", "command: [sleep, infinity]")
	return strings.ReplaceAll(doc, "command: [sriov-network-operator]", "command: [sleep, infinity]")
}
