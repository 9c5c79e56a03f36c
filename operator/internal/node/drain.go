package node

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// disturbed lists the VFs in use that the works would disturb. The kubelet is asked
// only if there is something to ask about.
func (d *Daemon) disturbed(ctx context.Context, works []plan.Work, found Found) (map[string]bool, error) {
	var vfs []string
	for _, w := range works {
		vfs = append(vfs, w.Disturbs()...)
	}
	if len(vfs) == 0 {
		return nil, nil
	}
	used, err := inUse(ctx, d.PodResources, found.Interfaces)
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}
	for _, vf := range vfs {
		if used[vf] {
			held[vf] = true
		}
	}
	return held, nil
}

// drain asks for the node to be drained if VFs in use would be disturbed, and tells
// whether that has to be waited for.
func (d *Daemon) drain(ctx context.Context, state *v1.SriovNetworkNodeState, held map[string]bool) (waiting bool, err error) {
	a := state.Annotations
	if len(held) == 0 || a[v1.AnnotationDesiredState] == v1.DrainRequired && a[v1.AnnotationCurrentState] == v1.DrainComplete {
		awaitingDrain.Set(0)
		return false, nil
	}
	awaitingDrain.Set(float64(len(held)))
	return true, d.ask(ctx, state, v1.DrainRequired)
}

// ask sets what the daemon wants of the operator.
func (d *Daemon) ask(ctx context.Context, state *v1.SriovNetworkNodeState, desired string) error {
	if state.Annotations[v1.AnnotationDesiredState] == desired {
		return nil
	}
	old := state.DeepCopy()
	if state.Annotations == nil {
		state.Annotations = map[string]string{}
	}
	state.Annotations[v1.AnnotationDesiredState] = desired
	return d.Client.Patch(ctx, state, client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{}))
}
