// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/soak"
)

// storedReader reads past the cache.
type storedReader struct{ *lagging }

func (s storedReader) Get(_ context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	obj.SetName(key.Name)
	if state, ok := obj.(*v1.SriovNetworkNodeState); ok {
		s.stored[keyOf(obj)].(*v1.SriovNetworkNodeState).DeepCopyInto(state)
	}
	return nil
}

// However late the cache shows what was written, no more nodes are drained at once than
// their pool allows, and in the end each had its turn.
func TestLimitBehindALaggingCache(t *testing.T) {
	const nodes, limit = 6, 2
	for seed := range uint64(soak.Times(50)) {
		random := rand.New(rand.NewPCG(seed, 0))
		l := newLagging(t)
		l.during, l.onEvent = func() {}, func(_, _ client.Object) {}
		r := &Drainer{Client: l.client(), Operator: Operator{Namespace: lagNamespace}, Live: storedReader{l}, Wake: func([]string) {}}

		l.put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: lagNamespace}})
		cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: lagNamespace, Name: v1.DefaultConfigName, UID: "u"}}
		cfg.Spec.DisableDrain = true
		l.put(cfg)
		pool := &v1.SriovNetworkPoolConfig{ObjectMeta: metav1.ObjectMeta{Namespace: lagNamespace, Name: "p"}}
		pool.Spec = v1.SriovNetworkPoolConfigSpec{MaxUnavailable: new(intstr.FromInt32(limit)), NodeSelector: &metav1.LabelSelector{}}
		l.put(pool)
		for i := range nodes {
			n := nodeMeta()
			n.Name = fmt.Sprintf("n%d", i)
			l.put(n)
			l.put(&v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: lagNamespace, Name: n.Name, Annotations: map[string]string{
				v1.AnnotationDesiredState: v1.DrainRequired, v1.AnnotationCurrentState: v1.DrainIdle,
			}}})
		}
		for l.deliver(0) {
		}
		for step := 0; ; step++ {
			require.Less(t, step, 20_000, "seed %d: nodes wait for ever", seed)
			var busyNow, waiting []string
			for i := range nodes {
				state := l.stored[fmt.Sprintf("SriovNetworkNodeState/n%d", i)].(*v1.SriovNetworkNodeState)
				if busy(state) {
					busyNow = append(busyNow, state.Name)
				} else if wants(state.Annotations[v1.AnnotationDesiredState]) {
					waiting = append(waiting, state.Name)
				}
				if state.Annotations[v1.AnnotationCurrentState] == v1.DrainComplete && random.IntN(8) == 0 {
					state = state.DeepCopy()
					state.Annotations[v1.AnnotationDesiredState] = v1.DrainIdle
					l.put(state)
				}
			}
			require.LessOrEqual(t, len(busyNow), limit, "seed %d, step %d: %v are drained", seed, step, busyNow)
			if len(busyNow)+len(waiting) == 0 {
				break
			}
			if random.IntN(3) == 0 {
				l.deliver(random.IntN(1 << 16))
				continue
			}
			name := fmt.Sprintf("n%d", random.IntN(nodes))
			_, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: lagNamespace, Name: name}})
			require.NoError(t, err)
		}
	}
}
