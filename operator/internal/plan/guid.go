// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov/value"
	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// GUIDPool tells which GUIDs the VFs of InfiniBand PFs get. An admin puts it on the
// node, as a JSON list with one entry for each PF:
//
//	[{"pciAddress": "0000:3b:00.0", "guids": ["02:00:00:00:00:00:01:00", ...]},
//	 {"pfGuid": "b8:3f:d2:03:00:5c:a1:10", "rangeStart": "02:00:00:00:00:00:02:00", "rangeEnd": "02:00:00:00:00:00:02:ff"}]
//
// VF i gets the i-th of the list, or rangeStart + i. With a nil pool each VF gets a random one.
type GUIDPool struct {
	pfs []guidsOf
	err error
}

// BrokenGUIDPool stands for a pool that cannot be read: no VF gets a GUID from it, nor a random one.
func BrokenGUIDPool(err error) *GUIDPool { return &GUIDPool{err: err} }

// guidsOf one PF, which is told by address or, if that is "", by its own GUID.
type guidsOf struct {
	address     string
	guid        uint64
	list        []uint64
	first, last uint64 // both included, if list is empty
}

// ParseGUIDPool reads a pool. No GUID may be in it twice.
func ParseGUIDPool(b []byte) (*GUIDPool, error) {
	var entries []struct {
		PciAddress, PfGUID   string
		GUIDs                []string
		RangeStart, RangeEnd string
	}
	if err := json.Unmarshal(b, &entries); err != nil {
		return nil, fmt.Errorf("GUID pool: %w", err)
	}
	p := &GUIDPool{}
	var errs []error
	for i, e := range entries {
		g := guidsOf{address: strings.ToLower(e.PciAddress)}
		fault := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("GUID pool, entry %d: "+format, append([]any{i}, args...)...))
		}
		parse := func(field, s string) uint64 {
			n, err := parseGUID(s)
			if err != nil {
				fault("%s: %w", field, err)
			}
			return n
		}
		switch {
		case (e.PciAddress == "") == (e.PfGUID == ""):
			fault("give one of pciAddress and pfGuid")
		case e.PfGUID != "":
			g.guid = parse("pfGuid", e.PfGUID)
		}
		switch ranged := e.RangeStart != "" || e.RangeEnd != ""; {
		case ranged == (len(e.GUIDs) > 0):
			fault("give either guids, or rangeStart and rangeEnd")
		case ranged:
			if g.first, g.last = parse("rangeStart", e.RangeStart), parse("rangeEnd", e.RangeEnd); g.last < g.first {
				fault("rangeEnd %s comes before rangeStart %s", e.RangeEnd, e.RangeStart)
			}
		default:
			for _, s := range e.GUIDs {
				g.list = append(g.list, parse("guids", s))
			}
		}
		p.pfs = append(p.pfs, g)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, p.unique()
}

// unique refuses a pool that gives one GUID to two VFs.
func (p *GUIDPool) unique() error {
	type span struct{ first, last uint64 }
	var all []span
	for _, g := range p.pfs {
		if len(g.list) == 0 {
			all = append(all, span{g.first, g.last})
		}
		for _, n := range g.list {
			all = append(all, span{n, n})
		}
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	for i := 1; i < len(all); i++ {
		if all[i].first <= all[i-1].last {
			return fmt.Errorf("GUID pool: %s is in it twice", value.GUID(all[i].first).String())
		}
	}
	return nil
}

// guid of a VF; "" is a random one.
func (p *GUIDPool) guid(pf *v1.InterfaceExt, vf int) (string, error) {
	if p == nil {
		return "", nil
	}
	if p.err != nil {
		return "", p.err
	}
	own, _ := parseGUID(pf.Mac)
	for _, g := range p.pfs {
		if g.address != pf.PciAddress && (g.address != "" || g.guid != own) {
			continue
		}
		switch n := g.first + uint64(vf); {
		case vf < len(g.list):
			return value.GUID(g.list[vf]).String(), nil
		case len(g.list) == 0 && n >= g.first && n <= g.last:
			return value.GUID(n).String(), nil
		}
		return "", errors.New("GUID pool: no GUID is left; give the PF more")
	}
	return "", errors.New("GUID pool: has no entry for the PF; add one, by pciAddress or pfGuid")
}

// parseGUID reads eight bytes in one of the notations of hardware addresses, or the
// last eight of an InfiniBand hardware address of twenty, which are its port's GUID.
func parseGUID(s string) (uint64, error) {
	b, err := net.ParseMAC(s)
	if err != nil || len(b) != 8 && len(b) != 20 {
		return 0, fmt.Errorf("GUID %q: want eight bytes, such as 02:00:00:00:00:00:01:00", s)
	}
	n := binary.BigEndian.Uint64(b[len(b)-8:])
	if n == 0 {
		return 0, fmt.Errorf("GUID %q: zero means none", s)
	}
	return n, nil
}

// noGUID: a VF of an InfiniBand PF that the kernel says has none: its port stays down.
func noGUID(pf *v1.InterfaceExt, vf *v1.VirtualFunction) bool {
	return pf.LinkType == v1.LinkTypeIB && !pf.Virtual() && vf.GUID == value.GUID(0).String()
}

// guidSteps give a VF in a group its GUID, if it has none. Its driver reads it when it
// is bound. One that has a GUID keeps it: a CNI plugin may have set it.
func guidSteps(pf *v1.InterfaceExt, vf *v1.VirtualFunction, want v1.Interface, pool *GUIDPool, then []Step) ([]Step, error) {
	g, ok := GroupOf(want, vf.VfID)
	created := vf.PciAddress == ""
	if !ok || pf.LinkType != v1.LinkTypeIB || pf.Virtual() || !created && !noGUID(pf, vf) {
		return then, nil
	}
	guid, err := pool.guid(pf, vf.VfID)
	if err != nil {
		return then, fmt.Errorf("VF %d: %w", vf.VfID, err)
	}
	out := []Step{{Op: OpGUID, VF: vf.VfID, GUID: guid}}
	if !created {
		out[0].Disturbs = []string{vf.PciAddress}
	}
	if g.DeviceType != v1.DeviceTypeVFIO && !slices.ContainsFunc(then, func(s Step) bool { return s.Op == OpBind }) {
		out = append(out, Step{Op: OpBind, VF: vf.VfID, Disturbs: out[0].Disturbs})
	}
	return append(out, then...), nil
}
