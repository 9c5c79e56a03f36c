// SPDX-License-Identifier: Apache-2.0

// Package features_test takes the four components through their features on one
// cluster of two nodes, installed by their own manifests, one test each. The tests
// run in the order of the files and leave the cluster as they found it.
//
// The nodes' ports are on one layer 2:
//
//	node1  0000:01:00.0  resource nics: 4 VFs for the kernel
//	       0000:02:00.0  resource dpdk: 2 VFs for vfio
//	       0000:03:00.0  left to the tests, no policy
//	node2  0000:01:00.0  resource nics: 2 VFs for the kernel
//	       0000:02:00.0  left to the tests, no policy
//	       0000:00:10.0  virtio-net, and 0000:00:11.0: as in a virtual machine, no PF
//
// node2 has no IOMMU, and a vfio with no-IOMMU mode.
package features_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/cluster"
	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

// patience is many times what anything takes on two busy cores.
const patience = 10 * time.Minute

// shared is the cluster of all tests; the first that asks starts it.
var shared = sync.OnceValues(func() (*cluster.Cluster, error) {
	ctx := context.Background()
	checkout, err := component.Checkout(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sriovkit-features-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := component.Build(ctx, checkout, dir, component.Tag, component.All...); err != nil {
		return nil, err
	}
	k, err := cluster.Start(ctx, cluster.Config{Nodes: []vm.Config{
		{PFs: 3, VirtioPFs: 1, VirtioVFs: 3}, {NoIOMMU: true, VFIONoIOMMU: true, VirtualNICs: 2}}})
	if err != nil {
		return nil, err
	}
	for _, c := range component.All {
		err = errors.Join(err, k.Import(ctx, c.Archive(dir)))
	}
	if err == nil {
		err = component.InstallMultus(ctx, k.Kubectl, checkout)
	}
	if err == nil {
		err = component.InstallOperator(ctx, k.Kubectl, checkout)
	}
	if err == nil {
		err = k.Apply(ctx, policies+networks)
	}
	return k, err
})

var started bool

func TestMain(m *testing.M) {
	status := m.Run()
	if started {
		if k, _ := shared(); k != nil {
			if err := k.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				status = 1
			}
		}
	}
	os.Exit(status)
}

type env struct {
	*cluster.Cluster
	*testing.T
	ctx context.Context // also good in cleanups
}

// newEnv returns the cluster, with the resources of the policies on offer.
func newEnv(t *testing.T) *env {
	t.Helper()
	cluster.Need(t)
	return onCluster(t)
}

// newLongEnv is newEnv for tests of the long tier.
func newLongEnv(t *testing.T) *env {
	t.Helper()
	cluster.NeedLong(t)
	return onCluster(t)
}

func onCluster(t *testing.T) *env {
	t.Helper()
	if !started { // by a test that others may run beside
		started = true
	}
	k, err := shared()
	if err != nil && k != nil {
		err = errors.Join(err, k.SaveLogs(context.Background()))
	}
	require.NoError(t, err)
	e := &env{Cluster: k, T: t, ctx: context.WithoutCancel(t.Context())}
	t.Cleanup(func() {
		if t.Failed() {
			for _, args := range []string{"describe pods", "get sriovnetworknodestates -A -o yaml", "get pods -A -o wide"} {
				out, _ := k.Kubectl(e.ctx, nil, strings.Fields(args)...)
				t.Log(out)
			}
			t.Log(k.SaveLogs(e.ctx))
		}
	})
	e.allocatable("node1", "openshift.io/nics", "4")
	e.allocatable("node1", "openshift.io/dpdk", "2")
	e.allocatable("node2", "openshift.io/nics", "2")
	return e
}

func (e *env) kubectl(args ...string) string {
	e.Helper()
	out, err := e.Kubectl(e.ctx, nil, args...)
	require.NoError(e, err)
	return strings.TrimSpace(out)
}

func (e *env) apply(manifest string) {
	e.Helper()
	require.NoError(e, e.Apply(e.ctx, manifest))
}

// get is for polling: an error is no reason to stop.
func (e *env) get(args ...string) string {
	out, err := e.Kubectl(e.ctx, nil, append([]string{"get"}, args...)...)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(out)
}

// node runs a shell command on node1.
func (e *env) node(script string) string {
	e.Helper()
	return e.on(0, script)
}

// on runs a shell command on a node, by its number from 0.
func (e *env) on(node int, script string) string {
	e.Helper()
	out, err := e.Nodes[node].Output(e.ctx, "sh", "-ec", script)
	require.NoError(e, err)
	return strings.TrimSpace(out)
}

func (e *env) until(what string, check func() bool) {
	e.Helper()
	// A look takes a tenth of a second of a processor, of which the nodes have none to
	// spare: the longer it takes already, the longer until the next.
	for begun := time.Now(); !check(); {
		waited := time.Since(begun)
		require.Less(e, waited, patience, what)
		time.Sleep(min(max(waited/8, 100*time.Millisecond), time.Second))
	}
}

func (e *env) allocatable(node, resource, want string) {
	e.Helper()
	e.kubectl("wait", "node/"+node, "--for=jsonpath={.status.allocatable."+strings.ReplaceAll(resource, ".", `\.`)+"}="+want, "--timeout="+patience.String())
}

// run creates pods that sleep, waits until they are ready, and deletes them at
// the end of the test.
func (e *env) run(pods ...pod) {
	e.Helper()
	var names, manifest []string
	for _, p := range pods {
		names = append(names, "pod/"+p.name)
		manifest = append(manifest, p.manifest())
	}
	e.apply(strings.Join(manifest, "---\n"))
	e.Cleanup(func() {
		e.kubectl(append([]string{"delete", "--ignore-not-found", "--timeout=" + patience.String()}, names...)...)
	})
	e.kubectl(append([]string{"wait", "--for=condition=Ready", "--timeout=" + patience.String()}, names...)...)
}

func (e *env) exec(pod string, args ...string) string {
	e.Helper()
	return e.kubectl(append([]string{"exec", pod, "--"}, args...)...)
}

// device is the VF that the device plugin gave to a pod, by its address.
func (e *env) device(pod, resource string) string {
	e.Helper()
	return e.exec(pod, "sh", "-c", "echo $PCIDEVICE_"+strings.ToUpper(strings.NewReplacer(".", "_", "/", "_").Replace(resource)))
}

// vfs is what the kernel of the node says of the VFs of the first port: the lines
// "vf N ..." of ip link, which are there also while a pod has the VF.
func (e *env) vfs() string {
	e.Helper()
	return e.node("ip link show dev $(ls /sys/bus/pci/devices/0000:01:00.0/net) | grep ' vf '")
}

// hostVFs counts the VFs of the first port whose interface is on the host.
func (e *env) hostVFs() int {
	e.Helper()
	return len(strings.Fields(e.node("ls -d /sys/bus/pci/devices/0000:01:00.0/virtfn*/net/* 2>/dev/null || true")))
}

// status is what the meta-plugin says of a pod's networks.
func (e *env) status(pod string) string {
	e.Helper()
	return e.kubectl("get", "pod", pod, "-o", `jsonpath={.metadata.annotations.k8s\.v1\.cni\.cncf\.io/network-status}`)
}

// address is what a pod has from our networks.
func (e *env) address(pod string) string {
	e.Helper()
	fields := strings.Fields(e.exec(pod, "sh", "-c", "ip -o -4 addr | grep 10.56"))
	require.Greater(e, len(fields), 3)
	return strings.TrimSuffix(fields[3], "/16")
}

// restored waits until the VFs of the first port are on the host, as they were, and
// checks that nothing is left of pods on them.
func (e *env) restored() {
	e.Helper()
	e.until("all VFs are back", func() bool { return e.hostVFs() == 4 })
	require.NotContains(e, e.vfs(), "vlan", "without their VLANs")
	e.until("nothing is left of the pods", func() bool {
		return e.node(`ls /var/lib/cni/networks/red /var/lib/cni/networks/blue 2>/dev/null | grep ^10 || true
			grep -l net1 /var/lib/cni/multus/records/* 2>/dev/null || true`) == ""
	})
}
