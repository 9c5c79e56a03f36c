// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
)

const spare = "0000:03:00.0" // the port of node1 that is left to the tests

// TestClusterOperator follows a policy for a port of its own from the API to the
// hardware and back: VFs and a resource come, change and go, what cannot be done is
// said and takes nothing away, restarts touch nothing, and the resource of another
// port notices none of it.
func TestClusterOperator(t *testing.T) {
	e := newEnv(t)
	trial := func(numVFs int, deviceType string) { e.apply(policy("trial", "node1", spare, numVFs, deviceType)) }
	remove := func() {
		e.kubectl("delete", "--ignore-not-found", "-n", component.Namespace, "sriovnetworknodepolicy", "trial-node1")
	}
	e.Cleanup(remove)
	numVFs := func() string { return e.node("cat /sys/bus/pci/devices/" + spare + "/sriov_numvfs") }
	sync := func() string {
		return e.get("sriovnetworknodestate", "node1", "-n", component.Namespace, "-o", "jsonpath={.status.syncStatus}")
	}
	require.Equal(t, "755", e.node("stat -c %a /opt/cni/bin/sriov"), "the CNI plugin is installed")
	told := e.told("openshift.io/nics")
	require.NotEmpty(t, told)

	t.Log("a policy becomes VFs and a resource")
	begun := time.Now()
	since := func() string { return fmt.Sprintf("%.1fs", time.Since(begun).Seconds()) }
	trial(7, "netdevice")
	e.until("VFs", func() bool { return numVFs() == "7" })
	vfs := since()
	e.allocatable("node1", "openshift.io/trial", "7")
	t.Logf("policy applied: VFs after %s, allocatable %s", vfs, since())
	e.until("the policy is ready", func() bool {
		return e.get("sriovnetworknodepolicy", "trial-node1", "-n", component.Namespace, "-o", "jsonpath={.status.readyNodes}") == "1"
	})
	trial(5, "netdevice")
	e.allocatable("node1", "openshift.io/trial", "5")

	t.Log("restarting the daemon and the operator touches nothing")
	before := e.functions(spare)
	e.kubectl("delete", "pod", "-n", component.Namespace, "-l", "app=sriov-network-config-daemon", "--field-selector=spec.nodeName=node1")
	e.kubectl("delete", "pod", "-n", component.Namespace, "-l", "app=sriov-network-operator")
	for _, name := range []string{"ds/sriov-network-config-daemon", "deploy/sriov-network-operator"} {
		e.kubectl("rollout", "status", name, "-n", component.Namespace, "--timeout="+patience.String())
	}
	require.Equal(t, before, e.functions(spare))
	e.allocatable("node1", "openshift.io/trial", "5")

	t.Log("what cannot be done is said, and takes nothing away")
	trial(70, "netdevice")
	e.until("the policy says so", func() bool {
		return strings.Contains(e.get("sriovnetworknodepolicy", "trial-node1", "-n", component.Namespace, "-o",
			`jsonpath={.status.conditions[?(@.type=="Ready")].message}`), "numVfs 70 exceeds the 7 VFs")
	})
	require.Equal(t, before, e.functions(spare))
	trial(5, "netdevice\n  eSwitchMode: switchdev")
	e.until("the node fails", func() bool { return sync() == "Failed" })
	require.Contains(t, e.get("sriovnetworknodestate", "node1", "-n", component.Namespace, "-o", "jsonpath={.status.lastSyncError}"), "does not offer eswitch modes")
	require.Equal(t, before, e.functions(spare))

	t.Log("vfio")
	trial(3, "vfio-pci")
	e.until("drivers", func() bool { return strings.Count(e.functions(spare), "vfio-pci") == 3 && sync() == "Succeeded" })
	e.allocatable("node1", "openshift.io/trial", "3")

	t.Log("without the policy nothing is left of it, and nobody else has noticed it")
	remove()
	e.until("no VFs", func() bool { return numVFs() == "0" })
	e.until("withdrawn", func() bool { return strings.HasSuffix(e.told("openshift.io/trial"), `"devices":0}`) })
	e.allocatable("node1", "openshift.io/trial", "0")
	require.NotContains(t, e.node("ls /etc/sriov-operator/pci /etc/udev/rules.d"), spare)
	require.Equal(t, told, e.told("openshift.io/nics"), "not even for a moment")
	e.allocatable("node1", "openshift.io/nics", "4")
}

// told is what the device plugin of node1 has told kubelet of a resource, from its
// beginning.
func (e *env) told(resource string) string {
	e.Helper()
	name := e.kubectl("get", "pods", "-n", component.Namespace, "-l", "app=sriov-device-plugin", "--field-selector=spec.nodeName=node1", "-o", "name")
	var out []string
	for line := range strings.Lines(e.kubectl("logs", "-n", component.Namespace, name)) {
		if strings.Contains(line, `"told kubelet"`) && strings.Contains(line, resource) {
			out = append(out, line)
		}
	}
	return strings.TrimSpace(strings.Join(out, ""))
}

// functions is what node1 itself says of the VFs of a port: address and driver, by index.
func (e *env) functions(port string) string {
	e.Helper()
	return e.node("for v in /sys/bus/pci/devices/" + port + `/virtfn*; do echo "$v $(readlink $v) $(readlink $v/driver)"; done`)
}
