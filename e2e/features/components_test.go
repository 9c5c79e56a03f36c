// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
)

// TestLongUpgrade replaces all components under a pod with a VF. At no time is
// the CNI plugin absent or half there; the pod keeps its VF and the new binaries
// give it back; new pods start.
func TestLongUpgrade(t *testing.T) {
	e := newLongEnv(t)
	const next = "next"
	checkout, err := component.Checkout(e.ctx)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, component.Build(e.ctx, checkout, dir, next, component.All...))
	image := map[string]string{}
	for _, c := range component.All {
		require.NoError(t, e.Import(e.ctx, c.Archive(dir)))
		image[c.Name] = c.Reference(next)
	}
	e.run(pod{name: "old", networks: "red", resource: "openshift.io/nics"})
	id := e.get("pod", "old", "-o", "jsonpath={.status.containerStatuses[0].containerID}")
	vf := e.device("old", "openshift.io/nics")

	// To start the program is slow under emulation and delays the upgrade. So it is started
	// once in half a second, and in between the file is looked at.
	e.node(`touch /run/upgrading
		(while test -e /run/upgrading; do
			/opt/cni/bin/sriov -version >/run/version 2>&1 || cat /run/version >>/run/absent
			for i in 1 2 3 4 5; do test -x /opt/cni/bin/sriov || echo not there >>/run/absent; sleep 0.1; done
		done) >/dev/null 2>&1 &`)
	e.Cleanup(func() { e.node("rm -f /run/upgrading /run/absent") })
	e.kubectl("-n", "kube-system", "set", "image", "daemonset/multus-shim", "install="+image["multus-shim"])
	in := []string{"-n", component.Namespace}
	// One change of the Deployment, as kubectl apply of a new version's manifests makes: with
	// two, every component would roll out twice.
	e.kubectl(append(in, "patch", "deployment/sriov-network-operator", "--patch", fmt.Sprintf(`{"spec": {"template": {"spec": {"containers": [{
		"name": "sriov-network-operator", "image": %q, "env": [
			{"name": "SRIOV_NETWORK_CONFIG_DAEMON_IMAGE", "value": %[1]q},
			{"name": "SRIOV_DEVICE_PLUGIN_IMAGE", "value": %q},
			{"name": "SRIOV_CNI_IMAGE", "value": %q}]}]}}}}`, image["operator"], image["device-plugin"], image["sriov-cni"]))...)
	e.kubectl("-n", "kube-system", "rollout", "status", "daemonset/multus-shim", "--timeout="+patience.String())
	for name, want := range map[string]string{"deployment/sriov-network-operator": image["operator"],
		"daemonset/sriov-network-config-daemon": image["operator"], "daemonset/sriov-device-plugin": image["device-plugin"]} {
		e.kubectl(append(in, "wait", name, "--for=jsonpath={.spec.template.spec.containers[0].image}="+want, "--timeout="+patience.String())...)
		e.kubectl(append(in, "rollout", "status", name, "--timeout="+patience.String())...)
	}
	for _, program := range []string{"sriov", "multus-shim"} {
		assert.Contains(t, e.node("/opt/cni/bin/"+program+" -version"), " "+next)
	}
	e.node("rm /run/upgrading")
	assert.Empty(t, e.node("cat /run/absent 2>/dev/null || true"), "the CNI plugin was always there and whole")
	assert.Equal(t, id, e.get("pod", "old", "-o", "jsonpath={.status.containerStatuses[0].containerID}"))
	assert.Contains(t, e.exec("old", "readlink", "/sys/class/net/net1/device"), vf)

	// Kubelet refuses for good a pod for which the device plugin is not there yet.
	e.allocatable("node1", "openshift.io/nics", "4")
	e.apply(pod{name: "new", networks: "red", resource: "openshift.io/nics"}.deployment())
	e.Cleanup(func() { e.kubectl("delete", "deployment", "new", "--cascade=foreground", "--ignore-not-found") })
	e.kubectl("wait", "deployment/new", "--for=condition=Available", "--timeout="+patience.String())
	e.kubectl("delete", "pod", "old")
	e.kubectl("delete", "deployment", "new", "--cascade=foreground")
	e.restored()
}
