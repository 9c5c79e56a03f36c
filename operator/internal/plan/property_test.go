// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/soak"
)

// randomPolicies returns valid and invalid policies that compete for two PFs.
func randomPolicies(r *rand.Rand) []*v1.SriovNetworkNodePolicy {
	names := []string{"ens1", "sriov1", "ens2", "ens9", ""}
	out := make([]*v1.SriovNetworkNodePolicy, 1+r.IntN(7))
	for i := range out {
		n := r.IntN(9)
		var sel []string
		for range r.IntN(4) {
			entry := names[r.IntN(len(names))]
			if r.IntN(2) == 0 {
				entry += fmt.Sprintf("#%d-%d", r.IntN(8), r.IntN(8))
			}
			sel = append(sel, entry)
		}
		p := pol(fmt.Sprintf("p%d", i), fmt.Sprintf("r%d", r.IntN(3)), n, sel)
		if r.IntN(3) > 0 {
			prio(r.IntN(4))(&p.Spec)
		}
		if r.IntN(4) == 0 {
			byVendor(&p.Spec)
		}
		p.Spec.ExternallyManaged = r.IntN(6) == 0
		p.Spec.ExcludeTopology = r.IntN(2) == 0
		out[i] = p
	}
	return out
}

// For any policies: no VF is in two groups, every group is within its PF's VFs and names its
// policy and resource, every VF count is some policy's, and the order of the input does not
// matter. The same holds on top of an earlier plan.
func TestPlanProperties(t *testing.T) {
	for seed := range uint64(soak.Times(3000)) {
		r := rand.New(rand.NewPCG(seed, 1))
		state := node()
		state.Status.Interfaces[1].NumVfs = r.IntN(8)
		if r.IntN(2) == 0 {
			state.Spec = Node(Input{Policies: randomPolicies(r), State: state}).Spec
		}
		policies := randomPolicies(r)
		got := Node(Input{Policies: policies, State: state})

		for _, pf := range got.Spec.Interfaces {
			has := &state.Status.Interfaces[slices.IndexFunc(state.Status.Interfaces, func(i v1.InterfaceExt) bool { return i.PciAddress == pf.PciAddress })]
			require.LessOrEqual(t, pf.NumVfs, has.TotalVfs, "seed %d", seed)
			owner := map[int]string{}
			asked := 0
			for _, g := range pf.VfGroups {
				rg, err := ParseRange(g.VfRange)
				require.NoError(t, err, "seed %d", seed)
				require.Less(t, rg.Last, pf.NumVfs, "seed %d: group beyond the VFs", seed)
				require.NotEmpty(t, g.ResourceName)
				at := slices.IndexFunc(policies, func(p *v1.SriovNetworkNodePolicy) bool { return p.Name == g.PolicyName })
				require.GreaterOrEqual(t, at, 0, "seed %d: owner %q does not exist", seed, g.PolicyName)
				if s := &policies[at].Spec; Validate(s) == nil && fits(s, has) == nil { // else the policy only holds what it had
					asked = max(asked, s.NumVfs)
				}
				for i := rg.First; i <= rg.Last; i++ {
					require.Empty(t, owner[i], "seed %d: VF %d of %s has two owners", seed, i, pf.Name)
					owner[i] = g.PolicyName
				}
			}
			held := slices.ContainsFunc(state.Spec.Interfaces, func(i v1.Interface) bool { return i.PciAddress == pf.PciAddress && i.NumVfs == pf.NumVfs })
			require.True(t, asked == pf.NumVfs || held, "seed %d: %s has %d VFs, its owners ask for %d", seed, pf.Name, pf.NumVfs, asked)
		}

		rand.New(rand.NewPCG(seed, 2)).Shuffle(len(policies), func(i, j int) { policies[i], policies[j] = policies[j], policies[i] })
		slices.Reverse(state.Status.Interfaces)
		require.Empty(t, cmp.Diff(got, Node(Input{Policies: policies, State: state})), "seed %d: order of the input matters", seed)
	}
}

// A policy's verdict does not depend on policies that are not its rivals.
func TestRivalsAreAllThatMatter(t *testing.T) {
	fewer := 0
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 3))
		state := node()
		if r.IntN(2) == 0 {
			state.Spec = Node(Input{Policies: randomPolicies(r), State: state}).Spec
		}
		policies := randomPolicies(r)
		p := policies[r.IntN(len(policies))]
		own := func(policies []*v1.SriovNetworkNodePolicy) Verdict {
			all := Node(Input{Policies: policies, State: state}).Verdicts
			return all[slices.IndexFunc(all, func(v Verdict) bool { return v.Policy == p.Name })]
		}
		rivals := RivalsOf(p, policies)(state)
		require.NotContains(t, rivals, p)
		require.Empty(t, cmp.Diff(own(policies), own(append(rivals, p))), "seed %d", seed)
		if len(rivals) < len(policies)-1 {
			fewer++
		}
	}
	require.Positive(t, fewer)
}

func FuzzParsePFName(f *testing.F) {
	for _, s := range []string{"ens1", "ens1#0-3", "#0-1", "ens1#3-1", "ens1#0-1#2-3", "a#-1-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePFName(s)
		if err != nil {
			require.Zero(t, p)
			return
		}
		again := p.name
		if !p.whole {
			again += "#" + p.vfs.String()
		}
		q, err := parsePFName(again)
		require.NoError(t, err)
		require.Equal(t, p, q)
	})
}

// randomPorts returns what a daemon may report that is broken, or that looks in the middle of
// a change: a name on two PFs, a device listed twice, attributes missing.
func randomPorts(r *rand.Rand) (out []v1.InterfaceExt) {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	for range r.IntN(5) {
		out = append(out, v1.InterfaceExt{
			PciAddress: pick("0000:01:00.0", "0000:02:00.0", "0000:03:00.0"), Name: pick("ens1", "ens2", "sriov1", ""), AltNames: []string{pick("ens9", "sriov1", "ens1")},
			Vendor: pick("8086", "8086", ""), DeviceID: pick("10c9", "10C9", ""), PermanentMac: pick("02:00:00:00:00:01", "02:00:00:00:00:02", ""),
			TotalVfs: r.IntN(9), NumVfs: r.IntN(3), LinkType: pick("ETH", ""),
		})
	}
	return out
}

// Whatever was reported and planned before: a plan lists each device once, and planning
// repeatedly reaches a plan that stays. Otherwise nodes would be changed without end.
func TestPlansAreStable(t *testing.T) {
	for seed := range uint64(soak.Times(3000)) {
		r := rand.New(rand.NewPCG(seed, 4))
		state := &v1.SriovNetworkNodeState{}
		for range 3 {
			state.Status.Interfaces = randomPorts(r)
			in := Input{Policies: randomPolicies(r), State: state}
			at := map[string]bool{}
			for _, i := range Node(in).Spec.Interfaces {
				require.False(t, at[i.PciAddress], "seed %d: %s is planned twice", seed, i.PciAddress)
				at[i.PciAddress] = true
			}
			// A policy that loses a PF with a former name may then find another PF with that name.
			for range len(state.Status.Interfaces) + 1 {
				state.Spec = Node(in).Spec
			}
			require.Empty(t, cmp.Diff(state.Spec, Node(in).Spec), "seed %d: %+v", seed, state.Status.Interfaces)
		}
	}
}
