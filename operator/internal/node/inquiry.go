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

// askAgain is how long it holds that a pod is here: it may end any time, and nothing on the
// node tells of that.
const askAgain = time.Minute

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

// mark is when a question was asked, "#" and Unix milliseconds, and tells it from one about the
// same pods before. It stands behind the pods, and the operator gives it back as if it were one.
func mark(question string) string {
	_, at, ok := strings.Cut(question, "#")
	if !ok {
		return ""
	}
	return "#" + at
}

func newMark() string { return "#" + strconv.FormatInt(time.Now().UnixMilli(), 10) }

// stale reports whether a question is so old that "here" may not hold any more; also one
// without a mark, or of a clock that was ahead.
func stale(question string) bool {
	at, err := strconv.ParseInt(strings.TrimPrefix(mark(question), "#"), 10, 64)
	age := time.Since(time.UnixMilli(at))
	return err != nil || age < 0 || age >= askAgain
}

// inquiry is what is asked about the VFs that only the API server can tell the holders of.
type inquiry struct {
	open   map[string]string // VFs, with their pods, that there is no answer about
	stands bool              // pods are asked about that may be on the node
}

// again is when the next pass is due, if no event comes before.
func (i inquiry) again() time.Duration {
	if i.stands {
		return askAgain
	}
	return lookAgain
}

// consider asks about the pods that nothing on the node tells of, and leaves out the steps that
// are not worth disturbing a VF in use for. In this order: of a pod that has ended long since
// such a step would never be done, for nobody would ask.
func (d *Daemon) consider(ctx context.Context, state *v1.SriovNetworkNodeState, works []plan.Work, held, unclear map[string]string) ([]plan.Work, inquiry, error) {
	asks, err := d.inquire(ctx, state, works, unclear)
	return spare(works, held), asks, err
}

// inquire asks the operator about the pods that have VFs which the works disturb and that
// nothing on the node tells of. A pod that is gone does not come back; one that is here is asked
// for anew after a time, and what was said before does not count then.
func (d *Daemon) inquire(ctx context.Context, state *v1.SriovNetworkNodeState, works []plan.Work, unclear map[string]string) (inquiry, error) {
	about, known, asked := heldByAny(works, unclear), answersIn(state), state.Annotations[v1.AnnotationPodsAsked]
	maybe := maps.Clone(about)
	maps.DeleteFunc(maybe, func(_, uid string) bool { return known[uid] == v1.PodGone })
	if len(maybe) == 0 {
		return inquiry{}, nil
	}
	// Of all of them, for an answer is about the question that is there.
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
