// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/controller/lagtest"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
	"github.com/sriovkit/sriovkit/operator/internal/soak"
)

// planning is a planner behind a lagging cache, with its queue.
type planning struct {
	t *testing.T
	*lagtest.Lagging
	planner *planner
	queued  map[string]bool
}

func newPlanning(t *testing.T) *planning {
	p := &planning{t: t, Lagging: lagtest.NewLagging(t), queued: map[string]bool{}}
	o := env.Operator{Namespace: lagtest.Namespace, ResourcePrefix: "x.io", KeepStaleMinutes: 30}
	p.planner = &planner{Client: p.APIClient(), Operator: o, Live: p.Live(), Board: &board{Changed: func([]string) {}}}
	p.OnEvent = p.enqueue
	p.Put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: lagtest.Namespace}})
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: lagtest.Namespace, Name: v1.DefaultConfigName, UID: "u"}}
	cfg.Spec.ConfigDaemonNodeSelector = map[string]string{"kubernetes.io/os": "linux"}
	p.Put(cfg)
	return p
}

// enqueue does what the watches of Setup do.
func (p *planning) enqueue(old, now client.Object) {
	obj := now
	if obj == nil {
		obj = old
	}
	update := event.UpdateEvent{ObjectOld: old, ObjectNew: now}
	switch o := obj.(type) {
	case *v1.SriovNetworkNodeState:
		if old == nil || now == nil || p.planner.News().Update(update) {
			p.queued[o.Name] = true
		}
	case *metav1.PartialObjectMetadata:
		if old == nil || now == nil || p.planner.NodeNews().Update(update) {
			p.queued[o.Name] = true
		}
	case *corev1.Namespace:
	default:
		for _, n := range p.Cached {
			if n, ok := n.(*metav1.PartialObjectMetadata); ok {
				p.queued[n.Name] = true
			}
		}
	}
}

func (p *planning) node(name string, labels map[string]string) *metav1.PartialObjectMetadata {
	n := env.NodeMeta()
	n.Name, n.Labels = name, map[string]string{"kubernetes.io/os": "linux"}
	maps.Copy(n.Labels, labels)
	return n
}

func (p *planning) policy(name string, vfs int, selector map[string]string) *v1.SriovNetworkNodePolicy {
	o := &v1.SriovNetworkNodePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: lagtest.Namespace, Name: name}}
	o.Spec = v1.SriovNetworkNodePolicySpec{ResourceName: "r" + name, NumVfs: vfs, NodeSelector: selector,
		NicSelector: v1.SriovNetworkNicSelector{PfNames: []string{"ens1"}}}
	return o
}

// report plays the daemon.
func (p *planning) report(name string, names ...string) {
	s, ok := p.Stored["SriovNetworkNodeState/"+name].(*v1.SriovNetworkNodeState)
	if !ok {
		return
	}
	s = s.DeepCopy()
	s.Status.SyncStatus, s.Status.Interfaces = v1.SyncSucceeded, nil
	for i, n := range names {
		s.Status.Interfaces = append(s.Status.Interfaces, v1.InterfaceExt{Name: n, PciAddress: fmt.Sprintf("0000:0%d:00.0", i+1), Vendor: "8086", DeviceID: "10c9", TotalVfs: 64})
	}
	p.Put(s)
}

func (p *planning) work(name string) {
	delete(p.queued, name)
	result, err := p.planner.Reconcile(p.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: lagtest.Namespace, Name: name}})
	require.NoError(p.t, err)
	if result.RequeueAfter > 0 && result.RequeueAfter <= apiclient.ConflictAgain {
		p.queued[name] = true
	}
}

// settle lets everything happen that is on its way.
func (p *planning) settle() {
	for range 10_000 {
		switch {
		case p.Deliver(0):
		case len(p.queued) > 0:
			p.work(slices.Min(slices.Collect(maps.Keys(p.queued))))
		default:
			return
		}
	}
	p.t.Fatal("it never settles")
}

// check compares every node state and node label with what the last policies say.
func (p *planning) check() {
	var policies []*v1.SriovNetworkNodePolicy
	mode := ""
	for _, key := range slices.Sorted(maps.Keys(p.Stored)) {
		switch o := p.Stored[key].(type) {
		case *v1.SriovNetworkNodePolicy:
			policies = append(policies, o)
		case *v1.SriovNetworkPoolConfig:
			mode = o.Spec.RdmaMode
		}
	}
	for _, obj := range p.Stored {
		n, ok := obj.(*metav1.PartialObjectMetadata)
		if !ok {
			continue
		}
		s := p.Stored["SriovNetworkNodeState/"+n.Name].(*v1.SriovNetworkNodeState)
		if s.Status.SyncStatus == "" {
			continue
		}
		want := plan.Node(plan.Input{Policies: policies, Labels: n.Labels, State: s, RdmaMode: mode}).Spec
		require.True(p.t, equality.Semantic.DeepEqual(want, s.Spec), "node %s: want %+v, is %+v", n.Name, want, s.Spec)
		label := v1.DevicePluginDisabled
		if len(want.Interfaces) > 0 {
			label = v1.DevicePluginEnabled
		}
		require.Equal(p.t, label, n.Labels[v1.LabelDevicePlugin], n.Name)
	}
}

// The smallest case: the cache goes on showing the state of before while a policy is
// changed twice. The second plan equals what the cache shows and writes nothing; the event
// of the first write has to bring it about.
func TestPolicyChangedBackBehindTheCache(t *testing.T) {
	t.Parallel()
	p := newPlanning(t)
	p.Put(p.node("a", nil))
	p.settle()
	p.report("a", "ens1")
	p.Put(p.policy("x", 4, nil))
	p.settle()
	spec := func() int {
		return p.Stored["SriovNetworkNodeState/a"].(*v1.SriovNetworkNodeState).Spec.Interfaces[0].NumVfs
	}
	require.Equal(t, 4, spec())

	only := func(kind string) { // its events arrive, those of others do not
		for i := slices.IndexFunc(p.Pending, func(c lagtest.Change) bool { return strings.HasPrefix(c.Key, kind) }); i >= 0; i = slices.IndexFunc(p.Pending, func(c lagtest.Change) bool { return strings.HasPrefix(c.Key, kind) }) {
			p.Deliver(i)
		}
	}
	p.Put(p.policy("x", 8, nil))
	only("SriovNetworkNodePolicy")
	p.work("a")
	require.Equal(t, 8, spec())
	p.Put(p.policy("x", 4, nil))
	only("SriovNetworkNodePolicy")
	p.work("a")
	require.Equal(t, 8, spec(), "nothing to write, as far as the cache shows")
	only("SriovNetworkNodeState")
	require.True(t, p.queued["a"], "the event of the first write is news to the second plan")
	p.settle()
	require.Equal(t, 4, spec())
	p.check()
}

// A write that nothing was planned after comes back as no news: it costs no second plan.
func TestOwnWriteIsNoNews(t *testing.T) {
	t.Parallel()
	p := newPlanning(t)
	p.Put(p.node("a", nil))
	p.settle()
	p.report("a", "ens1")
	p.settle()
	p.Put(p.policy("x", 4, nil))
	for len(p.queued) == 0 {
		require.True(t, p.Deliver(0))
	}
	p.work("a")
	require.Len(t, p.Pending, 2, "spec and label")
	for p.Deliver(0) {
	}
	require.Empty(t, p.queued)
	p.check()
}

// Whatever is changed, in whatever order the watches bring it, and how late: in the end
// every node state and every label is what the last policies, pools and labels say.
func TestPlansConvergeBehindALaggingCache(t *testing.T) {
	t.Parallel()
	runs := soak.Times(100)
	patches := 0
	for seed := range runs {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(seed), 1))
			p := newPlanning(t)
			p.During = func() {
				for range random.IntN(4) {
					p.Deliver(random.IntN(100))
				}
			}
			names := []string{"a", "b", "c"}
			for _, n := range names {
				p.Put(p.node(n, nil))
			}
			p.settle()
			for _, n := range names {
				p.report(n, "ens1", "ens2")
			}
			for range 20 { // what comes later must not hide what went wrong
				for range 1 + random.IntN(12) {
					p.step(random, names)
				}
				p.settle()
				p.check()
			}
			patches += p.Patches
		})
	}
	t.Logf("%d checks, %d patches", 20*runs, patches)
}

// step does one thing of those that happen in a cluster.
func (p *planning) step(random *rand.Rand, names []string) {
	name := names[random.IntN(len(names))]
	zone := map[string]string{"zone": string(rune('a' + random.IntN(2)))}
	switch policy := string(rune('x' + random.IntN(2))); random.IntN(16) {
	case 0, 1:
		p.Put(p.policy(policy, 4*(1+random.IntN(2)), nil))
	case 2:
		p.Put(p.policy(policy, 4, zone))
	case 3:
		if _, ok := p.Stored["SriovNetworkNodePolicy/"+policy]; ok {
			p.Remove("SriovNetworkNodePolicy/" + policy)
		}
	case 4:
		n := p.Stored["PartialObjectMetadata/"+name].(*metav1.PartialObjectMetadata).DeepCopy()
		n.Labels["zone"] = zone["zone"]
		p.Put(n)
	case 5: // somebody else's hand, or the kubelet's
		n := p.Stored["PartialObjectMetadata/"+name].(*metav1.PartialObjectMetadata).DeepCopy()
		if random.IntN(2) == 0 {
			delete(n.Labels, v1.LabelDevicePlugin)
		}
		p.Put(n)
	case 6:
		p.report(name, []string{"ens1", "ens2"}[random.IntN(2):]...)
	case 7:
		pool := &v1.SriovNetworkPoolConfig{ObjectMeta: metav1.ObjectMeta{Namespace: lagtest.Namespace, Name: "p"}}
		pool.Spec.RdmaMode = []string{"shared", "exclusive"}[random.IntN(2)]
		p.Put(pool)
	case 8, 9:
		p.Deliver(random.IntN(100))
	default:
		more := true
		for more && random.IntN(4) > 0 {
			more = p.Deliver(random.IntN(100))
		}
		if len(p.queued) > 0 {
			all := slices.Sorted(maps.Keys(p.queued))
			p.work(all[random.IntN(len(all))])
		}
	}
}

var _ reconcile.Reconciler = (*planner)(nil)
