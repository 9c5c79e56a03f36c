// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/controlplane"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

const (
	ns     = "sriov-network-operator"
	prefix = "openshift.io"
)

// patience only ends what would never happen.
const patience = 5 * time.Minute

// cluster is a real API server with the manifests of config/ applied and the operator
// running, under the rights that those manifests give it. All tests share it, so they
// do not run in parallel, and each uses nodes of its own.
type cluster struct {
	client.Client // an admin's
	config        *rest.Config
	scheme        *runtime.Scheme
	plane         *controlplane.ControlPlane
	netns         *controlplane.Namespace // of the control plane; nil is the tests' own
	address       string                  // of webhooks, that nobody else has
}

var shared struct {
	once sync.Once
	c    *cluster
	err  error
	stop func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.stop != nil {
		shared.stop()
	}
	os.Exit(code)
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	controlplane.Need(t)
	shared.once.Do(func() { shared.c, shared.err = startCluster() })
	require.NoError(t, shared.err)
	return shared.c
}

func startCluster() (*cluster, error) {
	ctx, cancel := context.WithCancel(context.Background())
	ctrl.SetLogger(logr.Discard())
	c, err := startPlane(ctx, controlplane.Config{})
	if err != nil {
		cancel()
		return nil, err
	}
	done := make(chan error, 1)
	shared.stop = func() { cancel(); <-done; c.plane.Close() }
	done <- nil // replaced once the operator runs

	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}} // of the pods of tests
	if err := c.Create(ctx, account); err != nil {
		return nil, err
	}
	mgr, err := c.operator(nil)
	if err != nil {
		return nil, err
	}
	<-done
	go func() { done <- mgr.Start(ctx) }()
	return c, nil
}

// startPlane starts a control plane and installs the manifests, unless somebody else does.
func startPlane(ctx context.Context, config controlplane.Config, install ...func(*controlplane.ControlPlane) error) (*cluster, error) {
	plane, err := controlplane.Start(ctx, config)
	if err != nil {
		return nil, err
	}
	c := &cluster{plane: plane, netns: plane.Namespace, scheme: runtime.NewScheme()}
	manifests := [][]string{{"apply", "-f", "testdata/nad-crd.yaml"}, {"apply", "-k", "../../config"}}
	for _, f := range install {
		if err := f(plane); err != nil {
			return nil, errors.Join(err, plane.Close())
		}
		manifests = manifests[:1]
	}
	for _, args := range manifests {
		if out, err := plane.Kubectl(ctx, nil, args...); err != nil {
			return nil, errors.Join(fmt.Errorf("kubectl %v: %w: %s", args, err, out), plane.Close())
		}
	}
	// A program that starts before its kinds are served ends, and nobody here starts it again.
	if out, err := plane.Kubectl(ctx, nil, "wait", "crd", "--all", "--for=condition=Established", "--timeout=5m"); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s", err, out), plane.Close())
	}
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1.AddToScheme, nad.AddToScheme} {
		if err := add(c.scheme); err != nil {
			return nil, err
		}
	}
	if c.config, err = clientcmd.BuildConfigFromFlags("", plane.Kubeconfig); err != nil {
		return nil, err
	}
	c.config.QPS = -1
	if c.netns != nil {
		c.config.Dial = c.netns.DialContext
	}
	if c.address, err = freeAddress(); err != nil {
		return nil, err
	}
	c.Client, err = client.New(c.config, client.Options{Scheme: c.scheme})
	return c, err
}

// freeAddress is one of loopback on which nobody listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// operator makes one replica.
func (c *cluster) operator(change func(*env.Operator)) (mgr ctrl.Manager, err error) {
	opts := env.Operator{
		Namespace: ns, ResourcePrefix: prefix, KeepStaleMinutes: 30, CreateConfig: true, CNIBinDir: "/opt/cni/bin", MetricsPort: 9110,
		WebhookAddress: c.address, WebhookURL: "https://" + c.address,
	}
	if change != nil {
		change(&opts)
	}
	images := deploy.Images{Daemon: "operator:test", DevicePlugin: "sriovdp:test", CNI: map[string]string{"sriov": "sriov-cni:test"}}
	// The CRDs were just applied: retry until they are served.
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		mgr, err = controller.New(c.as("sriov-network-operator", nil), opts, images, ctrl.Options{
			Scheme: c.scheme, Metrics: metricsserver.Options{BindAddress: "0"}, LeaderElection: true, LeaderElectionReleaseOnCancel: true,
			LeaderElectionID: "sriovkit-operator", LeaderElectionNamespace: ns, LeaseDuration: new(30 * time.Minute), RenewDeadline: new(10 * time.Minute),
			Controller: config.Controller{SkipNameValidation: new(true)}, // replicas share this process
		})
		if err == nil || time.Now().After(deadline) {
			return mgr, err
		}
	}
}

// as is the configuration of one of the manifests' service accounts.
func (c *cluster) as(account string, extra map[string][]string) *rest.Config {
	cfg := rest.CopyConfig(c.config)
	cfg.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + ns + ":" + account,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + ns, "system:authenticated"},
		Extra:    extra,
	}
	return cfg
}

// create makes an object and removes it after the test.
func (c *cluster) create(t *testing.T, obj client.Object) {
	t.Helper()
	require.NoError(t, c.Create(t.Context(), obj))
	t.Cleanup(func() { c.drop(t, obj) })
}

func (c *cluster) drop(t *testing.T, obj client.Object) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	// Again and again: the operator makes the state of a node that it does not know to be
	// gone, and then keeps it for a while.
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		require.True(t, apierrors.IsNotFound(c.Delete(ctx, obj, client.GracePeriodSeconds(0))), "%s is not gone", obj.GetName())
	}, patience, 20*time.Millisecond)
}

// node adds a Linux node whose daemon has reported two igb PFs.
func (c *cluster) node(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/os": "linux", "test": name}}}
	for k, v := range labels {
		n.Labels[k] = v
	}
	t.Cleanup(func() { // once the node is gone, or the operator makes another
		c.drop(t, &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}})
	})
	c.create(t, n)
	c.report(t, name, v1.SyncSucceeded, igb("ens1", "0000:01:00.0"), igb("ens2", "0000:02:00.0"))
}

func igb(name, addr string) v1.InterfaceExt {
	return v1.InterfaceExt{
		Name: name, PciAddress: addr, Vendor: "8086", DeviceID: "10c9", Driver: "igb", TotalVfs: 7, Mtu: 1500, LinkType: "ETH", LinkAdminState: "up",
	}
}

// report plays a daemon: it writes the status that one would.
func (c *cluster) report(t *testing.T, node, sync string, pfs ...v1.InterfaceExt) {
	t.Helper()
	c.eventually(t, func(t *assert.CollectT) {
		s := c.state(t, node)
		old := s.DeepCopy()
		s.Status.SyncStatus = sync
		if pfs != nil {
			s.Status.Interfaces = pfs
		}
		ready := metav1.Condition{Type: v1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1.ReasonSynced, ObservedGeneration: s.Generation, LastTransitionTime: metav1.Now()}
		if sync == v1.SyncFailed {
			s.Status.LastSyncError = "VF 0 of 0000:01:00.0: no such device"
			ready.Status, ready.Reason = metav1.ConditionFalse, v1.ReasonApplyFailed
		}
		conditions := []metav1.Condition{ready}
		for _, cond := range s.Status.Conditions {
			if cond.Type != v1.ConditionReady {
				conditions = append(conditions, cond)
			}
		}
		s.Status.Conditions = conditions
		require.NoError(t, c.Status().Patch(context.Background(), s, client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{})))
	})
}

func (c *cluster) state(t require.TestingT, node string) *v1.SriovNetworkNodeState {
	s := &v1.SriovNetworkNodeState{}
	require.NoError(t, c.Get(context.Background(), client.ObjectKey{Namespace: ns, Name: node}, s))
	return s
}

// ask plays a daemon that asks for, or is done with, a drain.
func (c *cluster) ask(t *testing.T, node, desired string) {
	t.Helper()
	s := &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: node}}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1.AnnotationDesiredState, desired)
	require.NoError(t, c.Patch(t.Context(), s, client.RawPatch("application/merge-patch+json", []byte(patch))))
}

func (c *cluster) eventually(t *testing.T, check func(t *assert.CollectT)) {
	t.Helper()
	require.EventuallyWithT(t, check, patience, 50*time.Millisecond)
}

func policy(name, node string, mods ...func(*v1.SriovNetworkNodePolicySpec)) *v1.SriovNetworkNodePolicy {
	p := &v1.SriovNetworkNodePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	p.Spec = v1.SriovNetworkNodePolicySpec{
		ResourceName: "nics", NodeSelector: map[string]string{"test": node}, NumVfs: 4,
		NicSelector: v1.SriovNetworkNicSelector{PfNames: []string{"ens1"}},
	}
	for _, m := range mods {
		m(&p.Spec)
	}
	return p
}

// groups writes the groups of a spec as "pf 0-3=resource".
func groups(s *v1.SriovNetworkNodeState) string {
	var out []string
	for _, i := range s.Spec.Interfaces {
		for _, g := range i.VfGroups {
			out = append(out, i.Name+" "+g.VfRange+"="+g.ResourceName)
		}
	}
	return strings.Join(out, ", ")
}
