// Package operator_test installs the operator with its daemon, the device plugin and
// the CNI plugin on a cluster of emulated nodes, as an admin would, and watches what
// becomes of policies.
package operator_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/cluster"
	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

const (
	checkout  = "../.."
	namespace = "sriov-network-operator"
	resource  = "openshift.io/nics"
)

type env struct {
	*cluster.Cluster
	t *testing.T
}

func (e *env) kubectl(args ...string) string {
	e.t.Helper()
	out, err := e.Kubectl(e.t.Context(), nil, args...)
	require.NoError(e.t, err, "kubectl %v", args)
	return strings.TrimSpace(out)
}

// get is for polling: an error is no reason to stop.
func (e *env) get(args ...string) string {
	out, err := e.Kubectl(context.WithoutCancel(e.t.Context()), nil, append([]string{"get"}, args...)...)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(out)
}

func (e *env) apply(manifest string) {
	e.t.Helper()
	require.NoError(e.t, e.Apply(e.t.Context(), manifest))
}

func (e *env) until(what string, check func() bool) {
	e.t.Helper()
	require.Eventually(e.t, check, 2*time.Minute, 50*time.Millisecond, what)
}

func (e *env) allocatable() string {
	return e.get("node", "node1", "-o", `jsonpath={.status.allocatable.openshift\.io/nics}`)
}

func (e *env) sync() string {
	return e.get("sriovnetworknodestate", "node1", "-n", namespace, "-o", "jsonpath={.status.syncStatus}")
}

func (e *env) numVFs() string {
	out, err := e.Nodes[0].Output(context.WithoutCancel(e.t.Context()), "cat", "/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs")
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(out)
}

// install builds the programs, imports their images and applies the manifests.
func install(t *testing.T) *env {
	vm.Need(t)
	dir := t.TempDir()
	require.NoError(t, component.Build(t.Context(), checkout, dir, component.Tag, component.All...))
	k, err := cluster.Start(t.Context(), cluster.Config{})
	require.NoError(t, err)
	e := &env{Cluster: k, t: t}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(e.get("pods,sriovnetworknodestates,sriovnetworknodepolicies", "-n", namespace, "-o", "yaml"))
			for _, app := range []string{"sriov-network-operator", "sriov-network-config-daemon", "sriov-device-plugin"} {
				out, err := k.Kubectl(context.WithoutCancel(t.Context()), nil, "logs", "-n", namespace, "-l", "app="+app, "--tail=60", "--all-containers")
				t.Log(app, out, err)
			}
			t.Log(k.SaveLogs(context.WithoutCancel(t.Context())))
		}
		require.NoError(t, k.Close())
	})
	for _, c := range component.All {
		require.NoError(t, k.Import(t.Context(), c.Archive(dir)))
	}
	e.kubectl("apply", "-f", filepath.Join(checkout, "operator/internal/controller/testdata/nad-crd.yaml"))
	require.NoError(t, component.InstallOperator(t.Context(), k.Kubectl, checkout))
	return e
}

func policy(numVFs int, mods string) string {
	return fmt.Sprintf(`
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkNodePolicy
metadata: {name: nics, namespace: %s}
spec:
  resourceName: nics
  nodeSelector: {kubernetes.io/os: linux}
  numVfs: %d
  nicSelector: {rootDevices: ["0000:01:00.0"]}
%s`, namespace, numVFs, mods)
}

func TestClusterOperator(t *testing.T) {
	e := install(t)
	out, err := e.Nodes[0].Output(t.Context(), "stat", "-c", "%a", "/opt/cni/bin/sriov")
	require.NoError(t, err)
	require.Equal(t, "755", strings.TrimSpace(out), "the CNI plugin is installed")

	t.Log("a policy becomes VFs and a resource")
	begun := time.Now()
	since := func() string { return fmt.Sprintf("%.1fs", time.Since(begun).Seconds()) }
	e.apply(policy(7, ""))
	e.until("spec", func() bool {
		return e.get("sriovnetworknodestate", "node1", "-n", namespace, "-o", "jsonpath={.spec.interfaces[0].numVfs}") == "7"
	})
	spec := since()
	e.until("VFs", func() bool { return e.numVFs() == "7" })
	vfs := since()
	e.until("Succeeded", func() bool { return e.sync() == "Succeeded" })
	synced := since()
	e.until("allocatable", func() bool { return e.allocatable() == "7" })
	t.Logf("policy applied: spec after %s, VFs %s, Succeeded %s, allocatable %s", spec, vfs, synced, since())
	e.until("the policy is ready", func() bool {
		return e.get("sriovnetworknodepolicy", "nics", "-n", namespace, "-o", "jsonpath={.status.readyNodes}") == "1"
	})

	t.Log("what becomes of the other port changes nothing for the first one's resource, not even for a moment")
	other := func(numVFs int) string {
		return strings.NewReplacer("nics", "other", "0000:01:00.0", "0000:02:00.0").Replace(policy(numVFs, ""))
	}
	told := e.told(resource)
	for _, n := range []int{5, 7} {
		e.apply(other(n))
		e.until("allocatable", func() bool {
			return e.get("node", "node1", "-o", `jsonpath={.status.allocatable.openshift\.io/other}`) == fmt.Sprint(n)
		})
	}
	e.kubectl("delete", "pod", "-n", namespace, "-l", "app=sriov-network-config-daemon")
	e.kubectl("rollout", "status", "ds/sriov-network-config-daemon", "-n", namespace, "--timeout=5m")
	e.kubectl("delete", "sriovnetworknodepolicy", "other", "-n", namespace)
	e.until("withdrawn", func() bool { return strings.HasSuffix(e.told("openshift.io/other"), `"devices":0}`) })
	require.Equal(t, told, e.told(resource))
	require.Equal(t, "7", e.allocatable())

	t.Log("a VF in use: a change of the count drains the node of its user, and of nobody else")
	e.apply(fmt.Sprintf(pod, "user", `{openshift.io/nics: "1"}`))
	e.apply(fmt.Sprintf(pod, "bystander", `{}`))
	e.kubectl("wait", "pod/user", "pod/bystander", "--for=condition=Ready", "--timeout=5m")
	e.apply(policy(3, ""))
	e.until("VFs", func() bool { return e.numVFs() == "3" })
	require.Contains(t, e.get("pods", "-o", "name"), "pod/bystander")
	require.NotContains(t, e.get("pods", "-o", "name"), "pod/user")
	e.until("allocatable", func() bool { return e.allocatable() == "3" })
	e.until("uncordoned", func() bool { return e.get("node", "node1", "-o", "jsonpath={.spec.unschedulable}") == "" })

	t.Log("restarting the daemon and the operator touches nothing")
	before := e.vfs()
	e.kubectl("delete", "pod", "-n", namespace, "-l", "app=sriov-network-config-daemon")
	e.kubectl("delete", "pod", "-n", namespace, "-l", "app=sriov-network-operator")
	e.kubectl("rollout", "status", "ds/sriov-network-config-daemon", "-n", namespace, "--timeout=5m")
	e.kubectl("rollout", "status", "deploy/sriov-network-operator", "-n", namespace, "--timeout=5m")
	require.Equal(t, before, e.vfs())
	require.Equal(t, "3", e.allocatable())

	t.Log("what cannot be done is said, and takes nothing away")
	e.apply(policy(70, ""))
	e.until("the policy says so", func() bool {
		return strings.Contains(e.get("sriovnetworknodepolicy", "nics", "-n", namespace, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].message}`), "numVfs 70 exceeds the 7 VFs")
	})
	require.Equal(t, before, e.vfs())
	e.apply(policy(3, "  eSwitchMode: switchdev\n"))
	e.until("the node fails", func() bool { return e.sync() == "Failed" })
	require.Contains(t, e.get("sriovnetworknodestate", "node1", "-n", namespace, "-o", "jsonpath={.status.lastSyncError}"), "does not offer eswitch modes")
	require.Equal(t, before, e.vfs())

	t.Log("vfio")
	e.apply(policy(3, "  deviceType: vfio-pci\n"))
	e.until("drivers", func() bool { return strings.Count(e.vfs(), "vfio-pci") == 3 && e.sync() == "Succeeded" })
	e.until("allocatable", func() bool { return e.allocatable() == "3" })

	t.Log("without the policy nothing is left")
	e.kubectl("delete", "sriovnetworknodepolicy", "nics", "-n", namespace)
	e.until("no VFs", func() bool { return e.numVFs() == "0" })
	e.until("label", func() bool {
		return e.get("node", "node1", "-o", `jsonpath={.metadata.labels.sriovnetwork\.openshift\.io/device-plugin}`) == "Disabled"
	})
	e.until("allocatable", func() bool { a := e.allocatable(); return a == "0" || a == "" })
	out, err = e.Nodes[0].Output(t.Context(), "sh", "-c", "ls /etc/sriov-operator/pci /etc/udev/rules.d")
	require.NoError(t, err)
	require.NotContains(t, out, "0000:01:00.0")

	t.Log("uninstalling with networks left hangs on nothing")
	e.apply("{apiVersion: sriovnetwork.openshift.io/v1, kind: SriovNetwork, metadata: {name: left, namespace: " + namespace + "}, spec: {resourceName: nics}}")
	e.until("NAD", func() bool { return strings.Contains(e.get("net-attach-def", "-n", namespace, "-o", "name"), "left") })
	e.kubectl("delete", "-k", filepath.Join(checkout, "operator/config"), "--timeout=5m")
}

const pod = `
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: ` + cluster.BusyboxImage + `
    command: [sleep, infinity]
    resources: {limits: %s}
`

// told is what the device plugin has told kubelet of a resource, from its beginning.
func (e *env) told(resource string) string {
	e.t.Helper()
	var out []string
	for line := range strings.Lines(e.kubectl("logs", "-n", namespace, "ds/sriov-device-plugin")) {
		if strings.Contains(line, `"told kubelet"`) && strings.Contains(line, resource) {
			out = append(out, line)
		}
	}
	return strings.TrimSpace(strings.Join(out, ""))
}

// vfs is what the node itself says of the VFs of the first PF: address, driver, index.
func (e *env) vfs() string {
	e.t.Helper()
	out, err := e.Nodes[0].Output(context.WithoutCancel(e.t.Context()), "sh", "-c",
		`for v in /sys/bus/pci/devices/0000:01:00.0/virtfn*; do echo "$v $(readlink $v) $(readlink $v/driver)"; done`)
	require.NoError(e.t, err)
	return out
}
