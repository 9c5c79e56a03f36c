// Package features_test takes the four components through their features on one
// cluster, installed by their own manifests, one test each. The tests run in the
// order of the files and leave the cluster as they found it.
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
const patience = 5 * time.Minute

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
	k, err := cluster.Start(ctx, cluster.Config{})
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
	vm.Need(t)
	started = true
	k, err := shared()
	if err != nil && k != nil {
		err = errors.Join(err, k.SaveLogs(context.Background()))
	}
	require.NoError(t, err)
	e := &env{Cluster: k, T: t, ctx: context.WithoutCancel(t.Context())}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := k.Kubectl(e.ctx, nil, "describe", "pods")
			t.Log(out)
			t.Log(k.SaveLogs(e.ctx))
		}
	})
	e.allocatable("nics", "4")
	e.allocatable("dpdk", "2")
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

// node runs a shell command on the node.
func (e *env) node(script string) string {
	e.Helper()
	out, err := e.Nodes[0].Output(e.ctx, "sh", "-ec", script)
	require.NoError(e, err)
	return strings.TrimSpace(out)
}

func (e *env) allocatable(resource, want string) {
	e.Helper()
	e.kubectl("wait", "node/node1", `--for=jsonpath={.status.allocatable.openshift\.io/`+resource+"}="+want, "--timeout="+patience.String())
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

type pod struct{ name, networks, resource string }

func (p pod) manifest() string {
	limits := ""
	if p.resource != "" {
		limits = fmt.Sprintf(`openshift.io/%s: "1"`, p.resource)
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: %s
  annotations: {k8s.v1.cni.cncf.io/networks: '%s'}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: %s
    resources: {limits: {%s}}
`, p.name, p.networks, cluster.BusyboxImage, limits)
}

const policies = `
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkNodePolicy
metadata: {name: nics, namespace: sriov-network-operator}
spec:
  resourceName: nics
  nodeSelector: {kubernetes.io/os: linux}
  nicSelector: {vendor: "8086", deviceID: "10c9", rootDevices: ["0000:01:00.0"]}
  numVfs: 4
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
`

// The subnet is the same, so that nothing but the VLAN keeps pods apart.
const networks = `
---
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetwork
metadata: {name: red, namespace: sriov-network-operator}
spec:
  networkNamespace: default
  resourceName: nics
  vlan: 100
  capabilities: '{"mac": true}'
  ipam: '{"type": "host-local", "ranges": [[{"subnet": "10.56.0.0/24", "rangeStart": "10.56.0.10", "rangeEnd": "10.56.0.19"}]]}'
---
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetwork
metadata: {name: blue, namespace: sriov-network-operator}
spec:
  networkNamespace: default
  resourceName: nics
  vlan: 200
  ipam: '{"type": "host-local", "ranges": [[{"subnet": "10.56.0.0/24", "rangeStart": "10.56.0.20", "rangeEnd": "10.56.0.29"}]]}'
---
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetwork
metadata: {name: dpdk, namespace: sriov-network-operator}
spec: {networkNamespace: default, resourceName: dpdk}
`
