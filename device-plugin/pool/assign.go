// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/device"
	"github.com/sriovkit/sriovkit/libsriov"
)

// Member is a device in a pool.
type Member struct {
	Device
	Selector config.Selector // the one that took it
	// Unhealthy says why no new container may get it; "" is healthy.
	Unhealthy string
	// Gone: the host does not have it, and only a pod that holds it keeps it here.
	Gone bool
}

// Holder is how a pod has a device: as a resource, or through a claim.
type Holder struct {
	// Resource is what the device was given out as. It is zero for a device that is in use
	// in a way that no pool of these can serve: through a claim, or through the other of
	// kubelet's two device managers.
	Resource config.Resource
	// Claim is the ResourceClaim ("namespace/name") that has the device; "" without one.
	Claim string
}

// Verdict is the pool of a device, or why it is in none.
type Verdict struct {
	Device *Device
	// Pools has one entry a pool: Taken for the one that has the device, and
	// for each other the condition that kept it out.
	Pools []Check
	// Selectors has the selector each entry is about; -1 if about none.
	Selectors []int
}

// Assignment is who has what.
type Assignment struct {
	Members  [][]Member // by pool, each in the order of PF and VF index
	Verdicts []Verdict  // by device
}

// Assign gives each device to the first pool that takes it. Devices that a pod
// holds (by device ID) stay with the resource they were given out as: no other
// pool offers them until the pod is gone.
func Assign(devices []Device, pools []config.Pool, held map[string]Holder) Assignment {
	devices = slices.Clone(devices)
	slices.SortFunc(devices, device.Compare)
	a := Assignment{Members: make([][]Member, len(pools)), Verdicts: make([]Verdict, len(devices))}
	onlyPFs := make([]bool, len(pools))
	for j := range pools {
		onlyPFs[j] = onlyIdlePFs(devices, &pools[j])
	}
	checks, selectors := make([]Check, len(devices)*len(pools)), make([]int, len(devices)*len(pools))
	for i := range devices {
		d := &devices[i]
		from, to := i*len(pools), (i+1)*len(pools)
		v := Verdict{Device: d, Pools: checks[from:to:to], Selectors: selectors[from:to:to]}
		holder, isHeld := held[d.ID]
		taken := false
		for j := range pools {
			p := &pools[j]
			mine := isHeld && holder.Resource == p.Resource
			v.Pools[j], v.Selectors[j] = try(d, p, mine, onlyPFs[j])
			if v.Pools[j] != Taken {
				continue
			}
			switch {
			case isHeld && !mine:
				v.Pools[j] = InUse
			case taken:
				v.Pools[j] = Earlier
			default:
				taken = true
				a.Members[j] = append(a.Members[j], Member{
					Device: *d, Selector: p.Selectors[v.Selectors[j]], Unhealthy: unhealthy(d, p),
				})
			}
		}
		a.Verdicts[i] = v
	}
	return a
}

// try finds the first selector that takes a device, or else what the last one
// lacked.
func try(d *Device, p *config.Pool, held, onlyPFs bool) (c Check, selector int) {
	if c := admit(d, p); c != Taken {
		return c, -1
	}
	for i := range p.Selectors {
		s := &p.Selectors[i]
		c, selector = match(d, s, held), i
		if c == Taken && d.IdlePF && !held && !asksForPF(d, p, s, onlyPFs) {
			c = IdlePF
		}
		if c == Taken {
			break
		}
	}
	return c, selector
}

// NoCarrier is what Member.Unhealthy says of a device in a pool with link health whose
// PF has no carrier.
const NoCarrier = "no carrier"

func unhealthy(d *Device, p *config.Pool) string {
	if p.LinkHealth && d.Carrier != nil && !*d.Carrier {
		return NoCarrier
	}
	return ""
}

// Overlaps lists, for pools that would have taken devices which a pool further
// up has, how many: a warning, since it may be meant.
func (a Assignment) Overlaps(pools []config.Pool) map[config.Resource]int {
	return a.count(pools, Earlier)
}

// IdlePFs lists, by resource, how many SR-IOV PFs without VFs a pool would have if it asked
// for PFs.
func (a Assignment) IdlePFs(pools []config.Pool) map[config.Resource]int {
	return a.count(pools, IdlePF)
}

// count returns, by resource, how many devices one check kept out.
func (a Assignment) count(pools []config.Pool, by Check) map[config.Resource]int {
	n := map[config.Resource]int{}
	for _, v := range a.Verdicts {
		for j, c := range v.Pools {
			if c == by {
				n[pools[j].Resource]++
			}
		}
	}
	return n
}

// Awaited reports whether a pool would have a device once a pod that got it as one of
// another resource is gone.
func (a Assignment) Awaited(held map[string]Holder) bool {
	for i := range a.Verdicts {
		v := &a.Verdicts[i]
		if slices.Contains(v.Pools, InUse) && held[v.Device.ID].Claim == "" {
			return true
		}
	}
	return false
}

// Waits reports whether a pool would take a device that is in use in another way.
func (a Assignment) Waits() bool {
	return slices.ContainsFunc(a.Verdicts, func(v Verdict) bool { return slices.Contains(v.Pools, InUse) })
}

// Explain tells in one line a pool why it did not take the device.
func (v Verdict) Explain(pools []config.Pool) []string {
	var lines []string
	for j, c := range v.Pools {
		var s *config.Selector
		where := pools[j].Resource.String()
		if v.Selectors[j] >= 0 {
			s = &pools[j].Selectors[v.Selectors[j]]
			if len(pools[j].Selectors) > 1 {
				where = fmt.Sprintf("%s selector %d", where, v.Selectors[j]+1)
			}
		}
		lines = append(lines, where+": "+c.Explain(v.Device, s))
	}
	return lines
}

// Keep adds to the pools the devices that a pod holds as theirs though the pool would not
// take them now, because they are gone or have changed. They are Unhealthy, so that no
// other container gets them. What is known of each is what the host says, else what it
// said before, else no more than the name.
func (a *Assignment) Keep(devices []Device, pools []config.Pool, before map[config.Resource][]Member, held map[string]Holder) (kept int) {
	if len(held) == 0 {
		return 0
	}
	byResource := map[config.Resource]int{}
	members := map[string]int{} // the pool of each, by ID
	for j := range pools {
		byResource[pools[j].Resource] = j
		for i := range a.Members[j] {
			members[a.Members[j][i].ID] = j
		}
	}
	for _, id := range slices.Sorted(maps.Keys(held)) {
		j, ours := byResource[held[id].Resource]
		if at, isMember := members[id]; !ours || isMember && at == j {
			continue
		}
		m := remember(id, pools[j], devices, before[pools[j].Resource])
		m.Unhealthy = "in use by a pod, but gone from the host or no longer selected"
		a.Members[j] = append(a.Members[j], m)
		kept++
	}
	return kept
}

func remember(id string, p config.Pool, devices []Device, before []Member) Member {
	var m Member
	if len(p.Selectors) > 0 {
		m.Selector = p.Selectors[0]
	}
	if i := slices.IndexFunc(before, func(b Member) bool { return b.ID == id }); i >= 0 {
		m = before[i]
	}
	i := slices.IndexFunc(devices, func(d Device) bool { return d.ID == id })
	if m.Gone = i < 0; !m.Gone {
		m.Device = devices[i]
	}
	if m.ID == "" {
		m.Device = Device{ID: id, Type: p.DeviceType}
		m.NUMANode = -1
		m.Address, _ = libsriov.ParseAddress(id) // an auxiliary device's name has none
	}
	return m
}

// Offer is the resource that a device may be given out as.
type Offer struct {
	Resource config.Resource
	Driver   string // that it is bound to
}

// Offers has the resource that each device may be given out as, by ID.
func (a Assignment) Offers(pools []config.Pool) map[string]Offer {
	offers := map[string]Offer{}
	for j, members := range a.Members {
		for i := range members {
			offers[members[i].ID] = Offer{pools[j].Resource, members[i].Driver}
		}
	}
	return offers
}
