// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// askAgain is how long the answer that a pod exists is valid: the pod may end at any time, and
// nothing on the node tells of that.
const askAgain = time.Minute

// answers are the operator's answers about pods, v1.PodHere or v1.PodGone by UID. The daemon
// has no right to read pods: RBAC cannot restrict it to those of its own node.
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

// mark returns the last element of a question: "#" and the time at which it was asked, in Unix
// milliseconds. It tells the question from an earlier one about the same pods. The operator
// repeats it in its answer as if it were a pod.
func mark(question string) string {
	_, at, ok := strings.Cut(question, "#")
	if !ok {
		return ""
	}
	return "#" + at
}

func newMark() string { return "#" + strconv.FormatInt(time.Now().UnixMilli(), 10) }

// stale reports whether a question is older than askAgain, or of unknown age: it has no mark,
// or one in the future because the clock has been set.
func stale(question string) bool {
	at, err := strconv.ParseInt(strings.TrimPrefix(mark(question), "#"), 10, 64)
	age := time.Since(time.UnixMilli(at))
	return err != nil || age < 0 || age >= askAgain
}

// inquiry is the state of the question to the operator about pods in unclear (see kubelet.query).
type inquiry struct {
	open   map[string]string // pod's UID by VF: not answered yet
	stands bool              // the question is still needed: some of its pods may exist
}

// again returns when the next pass is due, if no event comes before.
func (i inquiry) again() time.Duration {
	if i.stands {
		return askAgain
	}
	return lookAgain
}

// consider asks the operator about the pods in unclear, and then leaves out the steps that yield
// to a VF in use. In the other order a step that yields to a pod that ended long ago would never
// be carried out: the question would not be asked for it.
func (d *Daemon) consider(ctx context.Context, state *v1.SriovNetworkNodeState, works []plan.Work, held, unclear map[string]string) ([]plan.Work, inquiry, error) {
	asks, err := d.inquire(ctx, state, works, unclear)
	return dropYielding(works, held), asks, err
}

// inquire asks the operator whether the pods in unclear exist whose VFs the works disturb. The
// answer that a pod is gone is final. The answer that it exists is asked for again after
// askAgain, and is then not used any more.
func (d *Daemon) inquire(ctx context.Context, state *v1.SriovNetworkNodeState, works []plan.Work, unclear map[string]string) (inquiry, error) {
	about, known, asked := heldByAny(works, unclear), answersIn(state), state.Annotations[v1.AnnotationPodsAsked]
	maybe := maps.Clone(about)
	maps.DeleteFunc(maybe, func(_, uid string) bool { return known[uid] == v1.PodGone })
	if len(maybe) == 0 {
		return inquiry{}, nil
	}
	// All pods, also those that are gone: the answer replaces the previous one.
	pods := strings.Join(slices.Compact(slices.Sorted(maps.Values(about))), ",") + ","
	same := asked == pods+mark(asked)
	answered := same && known[mark(asked)] != ""
	open := maps.Clone(maybe)
	maps.DeleteFunc(open, func(_, uid string) bool { return answered && known[uid] != "" })
	if same && (len(open) > 0 || !stale(asked)) {
		return inquiry{open, true}, nil
	}
	return inquiry{maybe, true}, d.annotate(ctx, state, map[string]string{v1.AnnotationPodsAsked: pods + newMark()})
}
