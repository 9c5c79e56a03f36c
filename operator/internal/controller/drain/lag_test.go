// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	ctrl "sigs.k8s.io/controller-runtime"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/controller/lagtest"
	"github.com/sriovkit/sriovkit/operator/internal/soak"
)

// draining is a cluster in which daemons ask for drains.
type draining struct{ *lagtest.Lagging }

// newDraining is a drainer behind a lagging cache.
func newDraining(t *testing.T, disabled bool) (draining, *drainer) {
	l := draining{lagtest.NewLagging(t)}
	l.Put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: lagtest.Namespace}})
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: lagtest.Namespace, Name: v1.DefaultConfigName, UID: "u"}}
	cfg.Spec.DisableDrain = disabled
	l.Put(cfg)
	return l, &drainer{Client: l.APIClient(), Operator: env.Operator{Namespace: lagtest.Namespace}, Live: l.Live(), Wake: func([]string) {}}
}

func poolFor(name string, limit int32, selector map[string]string) *v1.SriovNetworkPoolConfig {
	pool := &v1.SriovNetworkPoolConfig{ObjectMeta: metav1.ObjectMeta{Namespace: lagtest.Namespace, Name: name, UID: types.UID(name)}}
	pool.Spec = v1.SriovNetworkPoolConfigSpec{MaxUnavailable: new(intstr.FromInt32(limit)), NodeSelector: &metav1.LabelSelector{MatchLabels: selector}}
	return pool
}

// wishing puts a node whose daemon asks for a drain.
func (l draining) wishing(name string, labels map[string]string) {
	n := env.NodeMeta()
	n.Name, n.Labels = name, labels
	l.Put(n)
	l.Put(&v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: lagtest.Namespace, Name: name, Annotations: map[string]string{
		v1.AnnotationDesiredState: v1.DrainRequired, v1.AnnotationCurrentState: v1.DrainIdle,
	}}})
}

// current is the answer of the operator to a node, as it is stored.
func (l draining) current(name string) string {
	return l.Stored["SriovNetworkNodeState/"+name].GetAnnotations()[v1.AnnotationCurrentState]
}

func (r *drainer) turn(t *testing.T, name string) {
	t.Helper()
	_, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: lagtest.Namespace, Name: name}})
	require.NoError(t, err)
}

// A pool that the cache does not have yet counts when a node is to be drained.
func TestDrainOfAPoolThatTheCacheHasNotYet(t *testing.T) {
	zone := map[string]string{"zone": "a"}
	l, r := newDraining(t, true)
	l.wishing("n", zone)
	for l.Deliver(0) {
	}
	l.Put(poolFor("p", 0, zone))
	r.turn(t, "n")
	require.Equal(t, v1.DrainIdle, l.current("n"))
}

// A node that is gone, as only the API server knows, takes no slot.
func TestDrainOfANodeThatIsGone(t *testing.T) {
	l, r := newDraining(t, true)
	l.wishing("n", nil)
	for l.Deliver(0) {
	}
	l.Remove("PartialObjectMetadata/n")
	r.turn(t, "n")
	require.Equal(t, v1.DrainIdle, l.current("n"))
	require.Empty(t, r.slots.nodes())
}

// Nodes whose drain began in another pool, or in none, count in the one that they are in now.
func TestSlotsMoveWithPools(t *testing.T) {
	zone := map[string]string{"zone": "a"}
	for limit, want := range map[int32]string{1: v1.DrainIdle, 2: v1.Draining} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			l, r := newDraining(t, true)
			l.Put(poolFor("old", 2, zone))
			l.wishing("early", zone)
			l.wishing("late", zone)
			for l.Deliver(0) {
			}
			r.turn(t, "early")
			require.Equal(t, v1.Draining, l.current("early"))
			l.Remove("SriovNetworkPoolConfig/old")
			l.Put(poolFor("new", limit, zone))
			r.turn(t, "late")
			require.Equal(t, want, l.current("late"))
		})
	}
}

// Whether drains are disabled, and whether a node takes part, is asked of the API server
// before pods are sent away or a node is said to be empty.
func TestDrainBehindTheConfiguration(t *testing.T) {
	l, r := newDraining(t, true)
	l.wishing("n", nil)
	for l.Deliver(0) {
	}
	r.turn(t, "n")
	for l.Deliver(0) {
	}
	require.Equal(t, v1.Draining, l.current("n"))
	cfg := l.Stored["SriovOperatorConfig/"+v1.DefaultConfigName].DeepCopyObject().(*v1.SriovOperatorConfig)
	cfg.Spec.DisableDrain = false
	l.Put(cfg)
	state := l.Stored["SriovNetworkNodeState/n"].DeepCopyObject().(*v1.SriovNetworkNodeState)
	state.Annotations[v1.AnnotationKeepUntil] = "2030-01-01T00:00:00Z"
	l.Put(state)
	r.turn(t, "n")
	require.Equal(t, v1.Draining, l.current("n"), "no permission from a configuration of before")
}

// Without a configuration nobody is left to change an emptied node: no drain begins, and one
// that has begun goes no further, also if only the API server knows it yet.
func TestNoDrainWithoutAConfiguration(t *testing.T) {
	l, r := newDraining(t, true)
	l.wishing("n", nil)
	l.wishing("other", nil)
	l.Put(poolFor("p", 2, nil))
	for l.Deliver(0) {
	}
	r.turn(t, "n")
	require.Equal(t, v1.Draining, l.current("n"))
	cfg := l.Stored["SriovOperatorConfig/"+v1.DefaultConfigName].DeepCopyObject().(*v1.SriovOperatorConfig)
	l.Remove("SriovOperatorConfig/" + v1.DefaultConfigName)
	r.turn(t, "n")
	require.Equal(t, v1.Draining, l.current("n"), "the cache has the configuration")
	for l.Deliver(0) {
	}
	r.turn(t, "n")
	r.turn(t, "other")
	require.Equal(t, v1.Draining, l.current("n"))
	require.Equal(t, v1.DrainIdle, l.current("other"))
	l.Put(cfg)
	for l.Deliver(0) {
	}
	r.turn(t, "n")
	r.turn(t, "other")
	require.Equal(t, v1.DrainComplete, l.current("n"))
	require.Equal(t, v1.Draining, l.current("other"))
}

// Who leads next counts the nodes that the one before has begun with last, though no cache
// shows it.
func TestSlotsOfTheLeaderBefore(t *testing.T) {
	l, before := newDraining(t, true)
	l.wishing("a", nil)
	l.wishing("b", nil)
	for l.Deliver(0) {
	}
	before.turn(t, "a")
	require.Equal(t, v1.Draining, l.current("a"))
	next := &drainer{Client: before.Client, Operator: before.Operator, Live: l.Live(), Wake: func([]string) {}}
	next.turn(t, "b")
	require.Equal(t, v1.DrainIdle, l.current("b"))
}

// However late the cache shows what was written, no more nodes are drained at once than
// their pool allows, and in the end each had its turn.
func TestLimitBehindALaggingCache(t *testing.T) {
	const nodes, limit = 6, 2
	for seed := range uint64(soak.Times(20)) {
		random := rand.New(rand.NewPCG(seed, 0))
		l, r := newDraining(t, true)
		l.Put(poolFor("p", limit, nil))
		for i := range nodes {
			l.wishing(fmt.Sprintf("n%d", i), nil)
		}
		for l.Deliver(0) {
		}
		for step := 0; ; step++ {
			require.Less(t, step, 20_000, "seed %d: nodes wait for ever", seed)
			var busyNow, waiting []string
			for i := range nodes {
				state := l.Stored[fmt.Sprintf("SriovNetworkNodeState/n%d", i)].(*v1.SriovNetworkNodeState)
				if busy(state) {
					busyNow = append(busyNow, state.Name)
				} else if wants(state.Annotations[v1.AnnotationDesiredState]) {
					waiting = append(waiting, state.Name)
				}
				if state.Annotations[v1.AnnotationCurrentState] == v1.DrainComplete && random.IntN(8) == 0 {
					state = state.DeepCopy()
					state.Annotations[v1.AnnotationDesiredState] = v1.DrainIdle
					l.Put(state)
				}
			}
			require.LessOrEqual(t, len(busyNow), limit, "seed %d, step %d: %v are drained", seed, step, busyNow)
			if len(busyNow)+len(waiting) == 0 {
				break
			}
			if random.IntN(3) == 0 {
				l.Deliver(random.IntN(1 << 16))
				continue
			}
			name := fmt.Sprintf("n%d", random.IntN(nodes))
			r.turn(t, name)
		}
	}
}

// Nodes that wait are woken when one that is being drained leaves their pool: by its labels,
// or because pools were changed.
func TestWaitersOfALeftPoolAreWoken(t *testing.T) {
	zone := map[string]string{"zone": "a"}
	for name, leave := range map[string]func(l draining, r *drainer){
		"by its labels": func(l draining, r *drainer) {
			node := l.Stored["PartialObjectMetadata/early"].DeepCopyObject().(*metav1.PartialObjectMetadata)
			node.Labels = map[string]string{"zone": "b"}
			l.Put(node)
			for l.Deliver(0) {
			}
			r.turn(t, "early")
		},
		"by a change of its pool": func(l draining, r *drainer) {
			l.Put(poolFor("p", 1, map[string]string{"name": "late"}))
			l.Stored["SriovNetworkPoolConfig/p"].SetGeneration(2)
			for l.Deliver(0) {
			}
			r.turn(t, "other")
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, r := newDraining(t, true)
			var woken []string
			r.Wake = func(nodes []string) { woken = append(woken, nodes...) }
			l.Put(poolFor("p", 1, zone))
			l.wishing("early", zone)
			l.wishing("late", map[string]string{"zone": "a", "name": "late"})
			l.wishing("other", map[string]string{"zone": "c"})
			for l.Deliver(0) {
			}
			r.turn(t, "early")
			r.turn(t, "late")
			require.Equal(t, v1.Draining, l.current("early"))
			require.Equal(t, v1.DrainIdle, l.current("late"))
			for l.Deliver(0) {
			}
			require.Empty(t, woken)
			leave(l, r)
			require.Equal(t, []string{"late"}, woken)
			r.turn(t, "late")
			require.Equal(t, v1.Draining, l.current("late"))
		})
	}
}

// A node that something other than room stands against is not one of those that wait: it
// would be woken for nothing, and one of the few that are woken at once would not.
func TestWhatCannotBeDrainedDoesNotWait(t *testing.T) {
	zone := map[string]string{"zone": "a"}
	bad := poolFor("p", 1, zone)
	bad.Spec.MaxUnavailable = new(intstr.FromString("many"))
	for name, tc := range map[string]struct {
		change *v1.SriovNetworkPoolConfig
		says   string
	}{
		"in two pools":            {poolFor("q", 1, map[string]string{"name": "late"}), "in pools p and q: leave it in one"},
		"in a pool of a bad size": {bad, "pool p:"},
	} {
		t.Run(name, func(t *testing.T) {
			l, r := newDraining(t, true)
			var woken []string
			r.Wake = func(nodes []string) { woken = append(woken, nodes...) }
			l.Put(poolFor("p", 1, zone))
			l.wishing("early", zone)
			l.wishing("late", map[string]string{"zone": "a", "name": "late"})
			for l.Deliver(0) {
			}
			r.turn(t, "early")
			r.turn(t, "late")
			for l.Deliver(0) {
			}
			l.Put(tc.change)
			for l.Deliver(0) {
			}
			r.turn(t, "late")
			require.Equal(t, v1.DrainIdle, l.current("late"))
			drained := meta.FindStatusCondition(l.Stored["SriovNetworkNodeState/late"].(*v1.SriovNetworkNodeState).Status.Conditions, v1.ConditionDrained)
			require.NotNil(t, drained)
			require.Contains(t, drained.Message, tc.says)

			early := l.Stored["SriovNetworkNodeState/early"].DeepCopyObject().(*v1.SriovNetworkNodeState)
			early.Annotations[v1.AnnotationDesiredState] = v1.DrainIdle
			l.Put(early)
			for range 3 {
				for l.Deliver(0) {
				}
				r.turn(t, "early")
			}
			require.Equal(t, v1.DrainIdle, l.current("early"))
			require.Empty(t, r.slots.nodes(), "the slot is given back")
			require.Empty(t, woken)
		})
	}
}
