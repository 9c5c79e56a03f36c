// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/cluster"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

// A node whose /etc and /usr cannot be written, whose kubelet and CNI directories are
// elsewhere and which has no modprobe needs settings and nothing else: VFs for pods as
// interfaces and for vfio, whose driver nobody has loaded.
func TestClusterImmutableNode(t *testing.T) {
	cluster.Need(t)
	layout := cluster.Layout{
		CNIBin: "/var/lib/cni-plugins/bin", CNIConf: "/var/lib/cni-conf/net.d", KubeletRoot: "/var/lib/node/kubelet", Immutable: true,
	}
	s := newSite(t, cluster.Config{Nodes: []vm.Config{{}}, Layout: layout})
	bundle, charts := s.bundle("v1.0.0", s.sources(""))
	require.NoError(t, s.Import(s.ctx, bundle))
	require.NotContains(t, s.node("cat /proc/modules"), "vfio_pci ") // lsmod is modprobe by another name

	s.mustHelm("install", "kinds", filepath.Join(charts, kindsChart), "--create-namespace")
	s.mustHelm("install", "multus", filepath.Join(charts, multusChart),
		"--set", "cniBinPath="+layout.CNIBin+",cniConfPath="+layout.CNIConf+",kubeletPath="+layout.KubeletRoot)
	s.mustHelm("install", "sriov", filepath.Join(charts, operatorChart), "--set", "operator.cniBinPath="+layout.CNIBin,
		"--set", "operator.hostPaths.kubelet="+layout.KubeletRoot+",operator.hostPaths.state=/var/lib/sriov-operator",
		"--set", "operator.hostPaths.udev=/run/udev/rules.d,operator.hostPaths.modprobe=/run/modprobe.d")
	s.settled("sriovkit/operator:v1.0.0", "sriovkit/device-plugin:v1.0.0", "sriovkit/multus-shim:v1.0.0")
	require.NoError(t, s.Apply(s.ctx, policyAndNetwork+`
---
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkNodePolicy
metadata: {name: dpdk, namespace: sriov-network-operator}
spec:
  resourceName: dpdk
  nodeSelector: {kubernetes.io/os: linux}
  nicSelector: {rootDevices: ["0000:02:00.0"]}
  numVfs: 2
  deviceType: vfio-pci
---
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetwork
metadata: {name: dpdk, namespace: sriov-network-operator}
spec: {networkNamespace: default, resourceName: dpdk}
`))
	s.offered(nics, "4")
	s.offered("openshift.io/dpdk", "2")
	s.start("net", "red", nics)
	require.Contains(t, s.kubectl("exec", "net", "--", "ip", "-o", "-4", "addr"), "10.56.")
	s.start("user", "dpdk", "openshift.io/dpdk")
	require.Contains(t, s.kubectl("exec", "user", "--", "ls", "/dev/vfio"), "vfio")
	s.kubectl("delete", "pod", "net", "user", "--timeout="+patience.String())
	s.until("the VFs are back on the node", func() bool {
		return strings.Count(s.node("ls -d /sys/bus/pci/devices/0000:01:00.0/virtfn*/net/* || true"), "virtfn") == 4
	})
}
