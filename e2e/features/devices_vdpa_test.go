// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
)

// vdpaPort is the virtio port of node1.
const vdpaPort = "0000:04:00.0"

// vdpaPolicy gives a range of the port's three VFs, by its interface's name, vDPA devices.
func vdpaPolicy(kind, ifname, vfs string) string {
	return fmt.Sprintf(`
---
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkNodePolicy
metadata: {name: vdpa-%[1]s, namespace: sriov-network-operator}
spec:
  resourceName: vdpa_%[1]s
  nodeSelector: {kubernetes.io/hostname: node1}
  nicSelector: {pfNames: ["%s#%s"]}
  numVfs: 3
  vdpaType: %[1]s
`, kind, ifname, vfs)
}

// TestClusterVDPA gives pods VFs of a virtio port as vDPA devices, both types on one port:
// with virtio a pod has an interface that reaches another pod's, with vhost it has the
// character device, which it opens. They end with their policies.
func TestClusterVDPA(t *testing.T) {
	e := newEnv(t)
	pf := func(script string) string { return e.node("cd /sys/bus/pci/devices/" + vdpaPort + "\n" + script) }
	ifname := pf("ls virtio*/net")
	e.apply(vdpaPolicy("virtio", ifname, "0-1") + vdpaPolicy("vhost", ifname, "2-2") + network("vdpa", "vdpa_virtio", 0, 6) + `
---
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetwork
metadata: {name: vhost, namespace: sriov-network-operator}
spec: {networkNamespace: default, resourceName: vdpa_vhost}
`)
	e.Cleanup(func() {
		e.kubectl("delete", "-n", component.Namespace, "sriovnetwork/vdpa", "sriovnetwork/vhost",
			"sriovnetworknodepolicy/vdpa-virtio", "sriovnetworknodepolicy/vdpa-vhost")
		e.until("nothing is left of the devices", func() bool { return pf("cat sriov_numvfs; ls /sys/bus/vdpa/devices") == "0" })
	})
	e.allocatable("node1", "openshift.io/vdpa_virtio", "2")
	e.allocatable("node1", "openshift.io/vdpa_vhost", "1")
	e.run(
		pod{name: "virtio-1", networks: "vdpa", resource: "openshift.io/vdpa_virtio"},
		pod{name: "virtio-2", networks: "vdpa", resource: "openshift.io/vdpa_virtio"},
		pod{name: "vhost", networks: "vhost", resource: "openshift.io/vdpa_vhost"},
	)
	assert.Contains(t, e.exec("virtio-1", "ping", "-c2", "-W5", e.address("virtio-2")), " 0% packet loss")
	for _, name := range []string{"virtio-1", "virtio-2"} {
		vf := e.device(name, "openshift.io/vdpa_virtio")
		assert.Equal(t, "vp-vdpa", e.node("basename $(readlink /sys/bus/pci/devices/"+vf+"/driver)"))
		assert.Equal(t, "virtio_vdpa", e.node("basename $(readlink /sys/bus/vdpa/devices/vdpa:"+vf+"/driver)"))
	}

	vf := e.device("vhost", "openshift.io/vdpa_vhost")
	node := e.node("cd /sys/bus/vdpa/devices/vdpa:" + vf + "; ls -d vhost-vdpa-*")
	require.Equal(t, "/dev/"+node, e.exec("vhost", "sh", "-c", "ls -d /dev/vhost-vdpa-*"), "that of its VF, and no other")
	e.exec("vhost", "sh", "-c", "exec 3<>/dev/"+node)
	assert.NotContains(t, e.exec("vhost", "ip", "link"), "net1")
	assert.Contains(t, strings.Fields(pf("for v in virtfn*; do basename $(readlink $v); done")), vf)

	e.kubectl("delete", "pod", "virtio-1", "virtio-2", "vhost")
	e.until("the interfaces are back", func() bool { return pf("ls -d virtfn*/virtio*/net/* 2>/dev/null | wc -l") == "2" })
}
