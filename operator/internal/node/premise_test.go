// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// behind is a client whose cache goes on showing one state.
type behind struct {
	client.Client
	shows *v1.SriovNetworkNodeState
}

func (b behind) Get(_ context.Context, _ client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	b.shows.DeepCopyInto(obj.(*v1.SriovNetworkNodeState))
	return nil
}

// A drain that has ended is not taken for a permission while the cache still shows it. This
// also holds where there is no status to patch, and hence no conflict: the change has failed
// before, or the daemon was restarted in the middle of it.
func TestEndedDrainIsNoPermissionBehindTheCache(t *testing.T) {
	for name, restart := range map[string]bool{"failing": false, "restarted": true} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.kubelet.hold(treeVF1, "tenant")
			s.refuse = unix.EBUSY
			_, err := s.pass()
			require.NoError(t, err)
			require.Equal(t, v1.DrainRequired, s.annotation(v1.AnnotationDesiredState))
			s.answer(v1.DrainComplete, s.annotation(v1.AnnotationDrainRequest))
			_, err = s.pass()
			require.ErrorIs(t, err, unix.EBUSY)
			tried := len(s.wrote)
			require.Positive(t, tried)

			shows := s.state()
			if restart { // as the object is while works are carried out
				works, _ := s.steps(shows, s.observe(t.Context()))
				require.NoError(t, s.report(t.Context(), shows, Found{}, outcome{
					sync: v1.SyncInProgress, reason: v1.ReasonApplying, message: summary(works) + "; still in use: " + treeVF1 + " (pod ns/tenant)",
				}))
				s.failing, shows = attempt{}, s.state()
			}
			s.change(func(n *v1.SriovNetworkNodeState) { n.Annotations[v1.AnnotationDesiredState] = v1.DrainIdle })
			s.answer(v1.DrainIdle, "1")
			s.Client = behind{s.Client, shows}
			before := s.writes
			for range 3 {
				result, err := s.pass()
				require.NoError(t, err)
				require.Equal(t, settle, result.RequeueAfter, "looks again")
			}
			require.Len(t, s.wrote, tried, "nothing is done to VFs in use")
			require.Equal(t, before, s.writes, "nor is anything written that would have been refused")
		})
	}
}
