package pool

import (
	"fmt"
	"slices"

	"github.com/sriovkit/sriovkit/device-plugin/config"
)

// Member is a device in a pool.
type Member struct {
	Device
	Selector config.Selector // the one that took it
	// Unhealthy says why no new container may get it; "" is healthy.
	Unhealthy string
}

// Verdict tells what became of a device.
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
// holds (device ID to resource) stay with the resource they were given out as:
// no other pool offers them until the pod is gone.
func Assign(devices []Device, pools []config.Pool, held map[string]config.Resource) Assignment {
	devices = slices.Clone(devices)
	slices.SortFunc(devices, Compare)
	a := Assignment{Members: make([][]Member, len(pools)), Verdicts: make([]Verdict, len(devices))}
	checks, selectors := make([]Check, len(devices)*len(pools)), make([]int, len(devices)*len(pools))
	for i := range devices {
		d := &devices[i]
		from, to := i*len(pools), (i+1)*len(pools)
		v := Verdict{Device: d, Pools: checks[from:to:to], Selectors: selectors[from:to:to]}
		holder, isHeld := held[d.ID]
		taken := false
		for j := range pools {
			p := &pools[j]
			mine := isHeld && holder == p.Resource
			v.Pools[j], v.Selectors[j] = try(d, p, mine)
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
func try(d *Device, p *config.Pool, held bool) (c Check, selector int) {
	if c := admit(d, p); c != Taken {
		return c, -1
	}
	for i := range p.Selectors {
		if c, selector = match(d, &p.Selectors[i], held), i; c == Taken {
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
	n := map[config.Resource]int{}
	for _, v := range a.Verdicts {
		for j, c := range v.Pools {
			if c == Earlier {
				n[pools[j].Resource]++
			}
		}
	}
	return n
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

// Keep adds to a pool's members the devices that a pod still holds though the
// pool would not take them now, because they are gone or have changed. They
// are Unhealthy, so that no other container gets them.
func Keep(now, before []Member, isHeld func(id string) bool) []Member {
	out := now
	for _, m := range before {
		if isHeld(m.ID) && !slices.ContainsFunc(now, func(n Member) bool { return n.ID == m.ID }) {
			m.Unhealthy = "in use by a pod, but gone from the host or no longer selected"
			out = append(out, m)
		}
	}
	return out
}

// Recall fills in what the host stopped telling of a device because a pod has
// its interface: link type, partition key and RDMA device leave with it.
func Recall(now, before []Device) []Device {
	known := make(map[string]*Device, len(before))
	for i := range before {
		known[before[i].ID] = &before[i]
	}
	for i := range now {
		d, old := &now[i], known[now[i].ID]
		if old == nil || old.Driver != d.Driver || len(d.Netdevs) > 0 {
			continue
		}
		if d.LinkType == 0 {
			d.LinkType = old.LinkType
		}
		if d.PKey == "" {
			d.PKey = old.PKey
		}
		d.RDMACapable = d.RDMACapable || old.RDMACapable
	}
	return now
}
