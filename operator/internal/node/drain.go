// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// drainTries is how often a change is tried on a drained node before the drain is ended.
// More than once, because pods that have been evicted release their VFs a moment later.
const drainTries = 6

// drained reports whether the operator has drained the node for the daemon's present
// request. An answer to an earlier request does not count: the node may have got pods
// since.
func drained(state *v1.SriovNetworkNodeState) bool {
	a := state.Annotations
	if a[v1.AnnotationDesiredState] != v1.DrainRequired || a[v1.AnnotationCurrentState] != v1.DrainComplete {
		return false
	}
	return a[v1.AnnotationExternalDrainer] == "true" || a[v1.AnnotationDrainAnswer] == a[v1.AnnotationDrainRequest]
}

// mayDisturb reports whether VFs that pods hold may be changed: the node is drained, and the
// request named these pods. A named pod that is still there is one that a drain does not
// remove, such as a DaemonSet's. A pod that the request did not name needs another request
// first. A holder whose pod is not known cannot be named, and is disturbed.
func mayDisturb(state *v1.SriovNetworkNodeState, taken map[string]string) bool {
	if !drained(state) {
		return false
	}
	named := strings.Split(state.Annotations[v1.AnnotationDrainPods], ",")
	for _, pod := range taken {
		if pod != "" && !slices.Contains(named, pod) {
			return false
		}
	}
	return true
}

// podsOf formats the pods that hold VFs for v1.AnnotationDrainPods.
func podsOf(vfs map[string]string) string {
	pods := slices.Compact(slices.Sorted(maps.Values(vfs)))
	return strings.Join(slices.DeleteFunc(pods, func(pod string) bool { return pod == "" }), ",")
}

// permission says which works may be carried out now.
type permission struct {
	now     []plan.Work
	asked   map[string]string // pod by VF: the operator has yet to say whether the pod exists
	waiting map[string]string // pod by VF: in use, a drain is needed
	refused []error           // why works were left out for which no drain is requested
}

// permit decides which works may be carried out now, which need a drain, and which are not
// worth one. asked are the VFs about whose pods the operator has yet to answer.
func (d *Daemon) permit(ctx context.Context, state *v1.SriovNetworkNodeState, found Found, works []plan.Work, held, asked map[string]string) permission {
	var p permission
	if mayDisturb(state, heldByAny(works, held)) {
		p.now = works
		return p
	}
	for _, w := range works {
		contested := heldBy(w, held)
		if len(contested) == 0 {
			p.now = append(p.now, w)
			continue
		}
		if open := heldBy(w, asked); len(open) > 0 {
			if p.asked == nil {
				p.asked = map[string]string{}
			}
			maps.Copy(p.asked, open)
			continue
		}
		if err := d.checkWorthDraining(ctx, state, found, w); err != nil {
			p.refused = append(p.refused, fmt.Errorf("%s: %w; VFs in use: %s", orNode(w.PF), err, holders(contested)))
			continue
		}
		if p.waiting == nil {
			p.waiting = map[string]string{}
		}
		maps.Copy(p.waiting, contested)
	}
	return p
}

// checkWorthDraining returns why no drain should be requested for a work: it cannot
// succeed, or it failed on the drained node and nothing has changed since.
func (d *Daemon) checkWorthDraining(ctx context.Context, state *v1.SriovNetworkNodeState, found Found, w plan.Work) error {
	if failure, err := d.Machine.Files.failure(w.PF); err != nil {
		return err
	} else if failure.Premise != "" && failure.Premise == premise(state, found, w.PF) {
		return fmt.Errorf("%s (the node was drained for it, and is not drained again until the spec or the hardware changes)", failure.Error)
	}
	if err := d.Machine.checkFeasible(ctx, w); err != nil {
		return fmt.Errorf("the node is not drained for a change that cannot be made: %w", err)
	}
	return nil
}

// heldBy returns the VFs in use that a work disturbs, with their pods.
func heldBy(w plan.Work, held map[string]string) map[string]string {
	out := map[string]string{}
	for _, vf := range w.Disturbs() {
		if pod, ok := held[vf]; ok {
			out[vf] = pod
		}
	}
	return out
}

// heldByAny returns the VFs in use that any of the works disturbs, with their pods.
func heldByAny(works []plan.Work, held map[string]string) map[string]string {
	out := map[string]string{}
	for _, w := range works {
		maps.Copy(out, heldBy(w, held))
	}
	return out
}

// dropYielding leaves out the steps that yield (see plan.Step) to a VF in use.
func dropYielding(works []plan.Work, held map[string]string) []plan.Work {
	var out []plan.Work
	for _, w := range works {
		w.Steps = slices.DeleteFunc(slices.Clone(w.Steps), func(s plan.Step) bool {
			return s.Yields && slices.ContainsFunc(s.Disturbs, func(vf string) bool { _, ok := held[vf]; return ok })
		})
		if len(w.Steps) > 0 {
			out = append(out, w)
		}
	}
	return out
}

// askDrain asks the operator to drain the node. Each request has a number, which the
// operator's answer repeats. A new one is only made when the operator has answered the
// previous one or has ended its drain, so that no answer is taken for another's.
func (d *Daemon) askDrain(ctx context.Context, state *v1.SriovNetworkNodeState, vfs map[string]string) error {
	a := state.Annotations
	wish := map[string]string{
		v1.AnnotationDesiredState: v1.DrainRequired,
		v1.AnnotationDrainVFs:     strings.Join(slices.Sorted(maps.Keys(vfs)), ","), v1.AnnotationDrainPods: podsOf(vfs),
	}
	switch {
	case a[v1.AnnotationDesiredState] != v1.DrainRequired && a[v1.AnnotationCurrentState] != v1.DrainIdle:
		return nil // the operator is still ending the last drain; its change to Idle is an event
	case a[v1.AnnotationDesiredState] != v1.DrainRequired || drained(state): // the latter for pods that the last request did not name
		wish[v1.AnnotationDrainRequest] = nextNumber(a[v1.AnnotationDrainRequest])
	case a[v1.AnnotationDrainVFs] == wish[v1.AnnotationDrainVFs] && a[v1.AnnotationDrainPods] == wish[v1.AnnotationDrainPods]:
		return nil // requested already
	}
	return d.annotate(ctx, state, wish)
}

func nextNumber(s string) string {
	n, _ := strconv.ParseUint(s, 10, 63) // 0 if it is not a number
	return strconv.FormatUint(n+1, 10)
}

// endDrain tells the operator that the drain can end and, if done, that its answer about pods
// is not needed any more.
func (d *Daemon) endDrain(ctx context.Context, state *v1.SriovNetworkNodeState, done bool) error {
	d.tries = 0
	wish := map[string]string{}
	if state.Annotations[v1.AnnotationDesiredState] != v1.DrainIdle {
		wish = map[string]string{v1.AnnotationDesiredState: v1.DrainIdle, v1.AnnotationDrainVFs: "", v1.AnnotationDrainPods: ""}
	}
	if done && state.Annotations[v1.AnnotationPodsAsked] != "" {
		wish[v1.AnnotationPodsAsked] = ""
	}
	if len(wish) == 0 {
		return nil
	}
	return d.annotate(ctx, state, wish)
}

// annotate sets annotations of the state; "" removes one. It fails with a conflict if the
// object has changed since it was read.
func (d *Daemon) annotate(ctx context.Context, state *v1.SriovNetworkNodeState, annotations map[string]string) error {
	old := state.DeepCopy()
	if state.Annotations == nil {
		state.Annotations = map[string]string{}
	}
	maps.Copy(state.Annotations, annotations)
	maps.DeleteFunc(state.Annotations, func(k, _ string) bool { ours, ok := annotations[k]; return ok && ours == "" })
	err := d.Client.Patch(ctx, state, client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		state.Annotations = old.Annotations // nothing was written
	}
	return err
}

// keepsDrain decides, after a failure on a drained node, whether the drain is kept for
// another try. If not, the failure is recorded for checkWorthDraining.
func (d *Daemon) keepsDrain(state *v1.SriovNetworkNodeState, found Found, failures map[string]error) (bool, error) {
	if d.tries++; d.tries < drainTries {
		return true, nil
	}
	var errs []error
	for _, pf := range slices.Sorted(maps.Keys(failures)) {
		errs = append(errs, d.Machine.Files.noteFailure(pf, failure{Premise: premise(state, found, pf), Error: failures[pf].Error()}))
	}
	return false, errors.Join(errs...)
}

// failure is what went wrong with a PF on a drained node.
type failure struct {
	Premise string // digest of the spec and the hardware: see premise
	Error   string
}

// failedDir, below the host's root, has a file for each PF whose change failed.
const failedDir = runDir + "/failed"

func failureFile(pf string) string { return filepath.Join(failedDir, orNode(pf)) }

func (f Files) failure(pf string) (failure, error) {
	var out failure
	b, err := os.ReadFile(filepath.Join(f.Root, failureFile(pf)))
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	} else if err != nil {
		return out, err
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, fmt.Errorf("read /%s: %w", failureFile(pf), err)
	}
	return out, nil
}

func (f Files) noteFailure(pf string, what failure) error {
	b, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return f.write(failureFile(pf), b, 0o600)
}

func (f Files) forgetFailure(pf string) error {
	if err := os.Remove(filepath.Join(f.Root, failureFile(pf))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// premise returns a digest of what a change to a PF depends on: its spec, its identity, and
// its VFs with their drivers. A change that failed is worth another drain once it differs.
// Names and links are left out, which change without making a difference.
func premise(state *v1.SriovNetworkNodeState, found Found, pf string) string {
	var parts struct {
		Want   *v1.Interface
		System v1.System
		Have   *v1.InterfaceExt
		VFs    []string
	}
	parts.System = state.Spec.System
	for i := range state.Spec.Interfaces {
		if state.Spec.Interfaces[i].PciAddress == pf {
			want := state.Spec.Interfaces[i]
			want.Name, want.AltNames = "", nil
			parts.Want = &want
		}
	}
	for i := range found.Interfaces {
		if have := &found.Interfaces[i]; have.PciAddress == pf {
			parts.Have = &v1.InterfaceExt{
				PciAddress: pf, Vendor: have.Vendor, DeviceID: have.DeviceID, PermanentMac: have.PermanentMac, Driver: have.Driver,
				TotalVfs: have.TotalVfs, NumVfs: have.NumVfs, EswitchMode: have.EswitchMode,
			}
			for _, vf := range have.VFs {
				parts.VFs = append(parts.VFs, vf.PciAddress+" "+vf.Driver)
			}
		}
	}
	b, err := json.Marshal(parts)
	if err != nil { // strings and numbers alone
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
