// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"maps"
	"slices"
	"strings"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// answers of the operator about pods, by UID: v1.PodHere or v1.PodGone. The daemon may not
// read pods, for a right to read those of its node alone does not exist; the operator may.
type answers map[string]string

func answersIn(state *v1.SriovNetworkNodeState) answers {
	out := answers{}
	for _, one := range strings.Split(state.Annotations[v1.AnnotationPodsAnswer], ",") {
		if uid, says, ok := strings.Cut(one, "="); ok {
			out[uid] = says
		}
	}
	return out
}

// inquire asks the operator about the pods that have VFs which the works disturb and that
// nothing on the node tells of. It lists the VFs whose pods have no answer yet.
func (d *Daemon) inquire(ctx context.Context, state *v1.SriovNetworkNodeState, works []plan.Work, unclear map[string]string) (map[string]string, error) {
	about, known := heldByAny(works, unclear), answersIn(state)
	open := maps.Clone(about)
	maps.DeleteFunc(open, func(_, uid string) bool { return known[uid] != "" })
	if len(open) == 0 {
		return nil, nil
	}
	// Of all of them, for an answer is about the question that is there.
	question := strings.Join(slices.Compact(slices.Sorted(maps.Values(about))), ",")
	if state.Annotations[v1.AnnotationPodsAsked] == question {
		return open, nil
	}
	return open, d.annotate(ctx, state, map[string]string{v1.AnnotationPodsAsked: question})
}
