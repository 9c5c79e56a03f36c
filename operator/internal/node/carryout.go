// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// progress is the outcome of carryOut.
type progress struct {
	observation                  // after the works
	failures    map[string]error // by PF
	late        bool             // some works were left out because pods got their VFs meanwhile
	more        bool             // the observation asks for works that the one before did not
}

// again returns when the next pass is due: otherwise, unless there is more to do.
func (p progress) again(otherwise time.Duration) time.Duration {
	if p.more {
		return settle
	}
	return otherwise
}

// carryOut carries out works. It first withdraws the VFs that they disturb from the device
// plugin and then asks again who holds one, for a pod may have got it in between. err is
// about the API server; failures on the host are in the result.
func (d *Daemon) carryOut(ctx context.Context, state *v1.SriovNetworkNodeState, s observation, works []plan.Work) (progress, error) {
	p := progress{observation: s, failures: map[string]error{}}
	all := func(err error) {
		for _, w := range works {
			p.failures[w.PF] = err
		}
	}
	if err := d.offer(ctx, s, state, works); err != nil {
		all(err)
		return p, nil
	}
	still := "" // in use on the drained node
	if vfs := disturbs(works); len(vfs) > 0 {
		held, err := d.kubelet(state).awaitWithdrawn(ctx, vfs, s.Interfaces)
		if err != nil {
			all(err)
			return p, nil
		}
		works = dropYielding(works, held)
		if taken := heldByAny(works, held); !mayDisturb(state, taken) {
			before := len(works)
			works = slices.DeleteFunc(works, func(w plan.Work) bool { return len(heldBy(w, held)) > 0 })
			p.late = len(works) < before
		} else if len(taken) > 0 {
			still = "; still in use: " + holders(taken)
		}
	}
	if len(works) == 0 {
		return p, nil
	}
	// The cache may be behind. Without the newest object VFs would be created twice for two
	// policies applied together, and a drain that the daemon itself has ended would still pass
	// for a permission. A status patch fails with a conflict if there is a newer object; if
	// there was nothing to patch, newest asks.
	version := state.ResourceVersion
	if !d.failing.again(state, works) {
		if err := d.report(ctx, state, s.Found, outcome{sync: v1.SyncInProgress, reason: v1.ReasonApplying, message: summary(works) + still}); err != nil {
			return p, err
		}
	}
	if state.ResourceVersion == version {
		if err := d.newest(ctx, state); err != nil {
			return p, err
		}
	}
	begun := time.Now()
	p.failures = d.apply(ctx, works, s)
	applySeconds.Observe(time.Since(begun).Seconds())
	d.failing = attempt{generation: state.Generation, failures: p.failures}
	p.observation = d.observe(ctx)
	before, left := d.left(state, s), d.left(state, p.observation) // of all works, also those that wait for a drain
	if len(p.failures) > 0 || len(left) == 0 && p.err == nil {
		d.hardware.observed.Store(p.events) // the events are of the daemon's own changes
	}
	p.more = appeared(left, before)
	if done := slices.DeleteFunc(slices.Clone(works), func(w plan.Work) bool { return p.failures[w.PF] != nil }); len(done) > 0 {
		d.Events.Eventf(state, nil, corev1.EventTypeNormal, "Applied", "Apply", "%s", firstBytes(summary(done)+still, 900))
	}
	return p, nil
}

// newest returns a conflict unless state is what the API server has now.
func (d *Daemon) newest(ctx context.Context, state *v1.SriovNetworkNodeState) error {
	var now v1.SriovNetworkNodeState
	if err := d.Live.Get(ctx, client.ObjectKeyFromObject(state), &now); err != nil {
		return err
	}
	if now.UID != state.UID || now.ResourceVersion != state.ResourceVersion {
		return apierrors.NewConflict(v1.GroupVersion.WithResource("sriovnetworknodestates").GroupResource(), state.Name, errors.New("the cache is behind"))
	}
	return nil
}

// attempt is the outcome of the last works, and of which spec they were.
type attempt struct {
	generation int64
	failures   map[string]error // by PF
}

// again reports whether all these works failed before for the same spec. Another try is
// then not reported, so that a permanent failure does not write to the API server.
func (a attempt) again(state *v1.SriovNetworkNodeState, works []plan.Work) bool {
	return a.generation == state.Generation && !slices.ContainsFunc(works, func(w plan.Work) bool { return a.failures[w.PF] == nil })
}

// left returns the works that an observation asks for, without those of which every step yields
// to VFs in use.
func (d *Daemon) left(state *v1.SriovNetworkNodeState, s observation) []plan.Work {
	works, _ := d.steps(state, s)
	return slices.DeleteFunc(works, func(w plan.Work) bool {
		return !slices.ContainsFunc(w.Steps, func(s plan.Step) bool { return !s.Yields })
	})
}

// appeared reports whether works are left that are not as they were before the pass: something
// changed on the host in its course. The observation after the pass has seen that change, so no
// event will tell of it. Works that are left as they were wait for a drain, or the driver has
// accepted them without effect: another pass at once would not help.
func appeared(left, before []plan.Work) bool {
	return slices.ContainsFunc(left, func(l plan.Work) bool {
		return !slices.ContainsFunc(before, func(b plan.Work) bool { return reflect.DeepEqual(l, b) })
	})
}

// apply carries out the works concurrently, for PFs do not depend on each other. It
// returns the failures by PF.
func (d *Daemon) apply(ctx context.Context, works []plan.Work, s observation) map[string]error {
	log := logf.FromContext(ctx)
	errs := make([]error, len(works))
	var wg sync.WaitGroup
	for i, w := range works {
		pf := &v1.InterfaceExt{PciAddress: w.PF}
		if at := slices.IndexFunc(s.Interfaces, func(f v1.InterfaceExt) bool { return f.PciAddress == w.PF }); at >= 0 {
			pf = &s.Interfaces[at]
		}
		log.Info("changing", "pci", orNode(w.PF), "steps", summary([]plan.Work{w}))
		wg.Go(func() {
			start := time.Now()
			before := s.owned[w.PF]
			if before.Unreadable != nil || !plan.SameDevice(before.Interface, pf) {
				before = plan.Owned{}
			}
			if errs[i] = d.Machine.Apply(ctx, w, pf, before); errs[i] == nil {
				errs[i] = d.Machine.Files.forgetFailure(w.PF)
			}
			log.V(1).Info("changed", "pci", orNode(w.PF), "took", time.Since(start).String(), "err", errs[i])
		})
	}
	wg.Wait()
	failures := map[string]error{}
	for i, w := range works {
		if errs[i] != nil {
			failures[w.PF] = errs[i]
		}
	}
	return failures
}
