// SPDX-License-Identifier: Apache-2.0

// Package bench measures the operator's program at scale: a real API server, N nodes,
// and one process that answers for all their daemons.
package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controlplane"
)

const (
	ns       = "sriov-network-operator"
	patience = 10 * time.Minute
)

type scale struct {
	client.WithWatch
	b     *testing.B
	nodes int
	bin   string
	plane *controlplane.ControlPlane

	cmd     *exec.Cmd
	log     string        // what the program says
	ended   chan struct{} // closed when the program has
	metrics string        // address of the program's

	mu     sync.Mutex
	states map[string]seen // what the last event said of each node's state
	wake   chan struct{}
	drains atomic.Int64 // most nodes that were not Idle at once
	busy   sync.RWMutex // locked while no daemon answers
}

// seen is as much of a node state as a daemon and the measurements need.
type seen struct {
	generation, reported int64
	planned              bool
	numVfs               int
	desired, current     string
}

// BenchmarkScale runs the scenarios one after the other on one cluster of N nodes, with
// the program at $OPERATOR or one built from here. Reported are, for each scenario: wall
// seconds, CPU seconds of the operator, and its writes. N is 100, or each number in
// $NODES; 1000 take two minutes on two quiet cores, 5000 a quarter of an hour: give a
// -timeout. $UNTIL names the scenario to end with.
func BenchmarkScale(b *testing.B) {
	sizes := os.Getenv("NODES")
	if sizes == "" {
		sizes = "100"
	}
	for size := range strings.FieldsSeq(sizes) {
		n, err := strconv.Atoi(size)
		require.NoError(b, err, "NODES %q: want numbers, such as \"100 1000 5000\"", sizes)
		b.Run(size, func(b *testing.B) {
			for range b.N {
				run(b, n)
			}
		})
	}
}

func run(b *testing.B, n int) {
	s := start(b, n)
	s.operator()
	if s.measure("cold", func() {
		s.until(func(c seen) bool { return c.planned }, n)
	}) {
		return
	}
	if s.measure("policy", func() { // the label Enabled on every node comes with the first policy
		s.policy(4, true)
		s.until(func(c seen) bool { return c.numVfs == 4 && c.reported == c.generation }, n)
		s.ready(n)
	}) || s.measure("rollout", s.rollOut) {
		return
	}
	s.busy.Lock() // daemons have VFs to make: their answers come later, and count apart
	finished := sync.OnceFunc(s.busy.Unlock)
	defer finished()
	if s.measure("change", func() {
		s.policy(6, false)
		s.until(func(c seen) bool { return c.numVfs == 6 }, n)
	}) {
		return
	}
	s.measure("applied", func() {
		finished()
		s.until(func(c seen) bool { return c.reported == c.generation }, n)
		s.ready(n)
	})
	s.measure("label", func() { // one that no policy selects by
		s.label("node-00000", `{"metadata":{"labels":{"other":"yes"}}}`)
		time.Sleep(3 * time.Second)
	})
	s.measure("flip", func() {
		s.label("node-00000", `{"metadata":{"labels":{"flip":"no"}}}`)
		s.until(func(c seen) bool { return c.numVfs == 0 }, 1)
		s.ready(n - 1)
	})
	s.label("node-00000", `{"metadata":{"labels":{"flip":"yes"}}}`)
	s.until(func(c seen) bool { return c.numVfs == 6 && c.reported == c.generation }, n)
	s.ready(n)
	s.measure("idle10s", func() { time.Sleep(10 * time.Second) })
	s.stop()
	s.operator()
	s.measure("restart", func() { s.settled() })
	s.drainAll()
	s.measure("drain10pct", func() {
		s.until(func(c seen) bool { return c.desired == v1.DrainIdle && c.current == v1.DrainIdle }, n)
	})
	b.ReportMetric(float64(s.drains.Load()), "drain10pct-most-at-once")
}

func start(b *testing.B, n int) *scale {
	controlplane.Need(b)
	ctx := b.Context()
	s := &scale{b: b, nodes: n, states: map[string]seen{}, wake: make(chan struct{}, 1), bin: os.Getenv("OPERATOR")}
	if s.bin == "" {
		s.bin = filepath.Join(b.TempDir(), "operator")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", s.bin, "../cmd/sriovkit-operator")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off") // as it is shipped
		out, err := build.CombinedOutput()
		require.NoError(b, err, "%s", out)
	}
	var err error
	s.plane, err = controlplane.Start(context.WithoutCancel(ctx), controlplane.Config{})
	require.NoError(b, err)
	b.Cleanup(func() { s.plane.Close() })
	for _, args := range [][]string{{"apply", "-f", "../internal/controller/testdata/nad-crd.yaml"}, {"apply", "-k", "../config"}} {
		out, err := s.plane.Kubectl(ctx, nil, args...)
		require.NoError(b, err, out)
	}
	ctrl.SetLogger(logr.Discard())
	scheme := runtime.NewScheme()
	require.NoError(b, clientgoscheme.AddToScheme(scheme))
	require.NoError(b, v1.AddToScheme(scheme))
	cfg, err := clientcmd.BuildConfigFromFlags("", s.plane.Kubeconfig)
	require.NoError(b, err)
	cfg.QPS = -1
	s.WithWatch, err = client.NewWithWatch(cfg, client.Options{Scheme: scheme})
	require.NoError(b, err)

	s.each(func(name string) error {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/os": "linux", "flip": "yes"}}}
		return s.Create(ctx, node)
	})
	daemons, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); s.daemons(daemons) }()
	b.Cleanup(func() { cancel(); <-done })
	return s
}

// each runs f for all nodes, several at once.
func (s *scale) each(f func(name string) error) {
	var g errgroup.Group
	g.SetLimit(32)
	for i := range s.nodes {
		g.Go(func() error { return f(fmt.Sprintf("node-%05d", i)) })
	}
	require.NoError(s.b, g.Wait())
}

// operator starts the program.
func (s *scale) operator() {
	free, err := net.Listen("tcp", "127.0.0.1:0") // others may measure beside this
	require.NoError(s.b, err)
	s.metrics = free.Addr().String()
	require.NoError(s.b, free.Close())
	s.cmd = exec.Command(s.bin, "operator", "-kubeconfig", s.plane.Kubeconfig, "-leader-elect=false", "-webhook-bind-address=0", "-metrics-bind-address", s.metrics, "-health-probe-bind-address", "0")
	s.cmd.Env = append(os.Environ(), "NAMESPACE="+ns, "RESOURCE_PREFIX=openshift.io", "CREATE_DEFAULT_CONFIG=true", "SRIOV_NETWORK_CONFIG_DAEMON_IMAGE=x")
	log, err := os.Create(filepath.Join(s.b.TempDir(), "operator.log"))
	require.NoError(s.b, err)
	s.cmd.Stderr, s.log = log, log.Name()
	require.NoError(s.b, s.cmd.Start())
	ended, cmd := make(chan struct{}), s.cmd
	s.ended = ended
	go func() { _ = cmd.Wait(); close(ended) }()
	s.b.Cleanup(s.stop)
}

func (s *scale) stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(os.Interrupt)
		<-s.ended
		s.cmd = nil
	}
}

func (s *scale) policy(numVFs int, create bool) {
	p := &v1.SriovNetworkNodePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "all"}}
	if !create {
		require.NoError(s.b, s.Patch(s.b.Context(), p, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"numVfs":%d}}`, numVFs))))
		return
	}
	p.Spec = v1.SriovNetworkNodePolicySpec{
		ResourceName: "nics", NumVfs: numVFs, NodeSelector: map[string]string{"flip": "yes"},
		NicSelector: v1.SriovNetworkNicSelector{Vendor: "8086", DeviceID: "10c9"},
	}
	require.NoError(s.b, s.Create(s.b.Context(), p))
}

// rollOut makes ten pools and then, by a label on every node, puts the nodes into them.
func (s *scale) rollOut() {
	const pools = 10
	for i := range pools {
		pool := &v1.SriovNetworkPoolConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("zone-%d", i)}}
		pool.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"zone": strconv.Itoa(i)}}
		require.NoError(s.b, s.Create(s.b.Context(), pool))
	}
	var next atomic.Int64
	s.each(func(name string) error {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		return s.Patch(s.b.Context(), n, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"labels":{"zone":"%d"}}}`, next.Add(1)%pools)))
	})
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		var list v1.SriovNetworkPoolConfigList
		require.NoError(s.b, s.List(s.b.Context(), &list, client.InNamespace(ns)))
		counted := 0
		for i := range list.Items {
			counted += list.Items[i].Status.Nodes
		}
		if counted == s.nodes {
			break
		}
		if time.Since(begun) > patience {
			s.b.Fatalf("the pools count %d of %d nodes", counted, s.nodes)
		}
	}
	require.NoError(s.b, s.DeleteAllOf(s.b.Context(), &v1.SriovNetworkPoolConfig{}, client.InNamespace(ns)))
}

func (s *scale) label(node, patch string) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}
	require.NoError(s.b, s.Patch(s.b.Context(), n, client.RawPatch("application/merge-patch+json", []byte(patch))))
}

// drainAll makes a pool of a tenth and has every daemon ask for a drain.
func (s *scale) drainAll() {
	pool := &v1.SriovNetworkPoolConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "tenth"}}
	require.NoError(s.b, client.IgnoreAlreadyExists(s.Create(s.b.Context(), pool)))
	require.NoError(s.b, s.Patch(s.b.Context(), pool, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"maxUnavailable":"10%"}}`))))
	s.each(func(name string) error { return s.ask(s.b.Context(), name, v1.DrainRequired) })
	s.until(func(c seen) bool { return c.desired == v1.DrainRequired || c.current != v1.DrainIdle }, 1)
}

func (s *scale) ask(ctx context.Context, name, desired string) error {
	state := &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	return s.Patch(ctx, state, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1.AnnotationDesiredState, desired)))
}
