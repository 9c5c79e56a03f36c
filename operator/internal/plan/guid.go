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

// GUIDPool assigns GUIDs to the VFs of InfiniBand PFs. An administrator writes it on the
// node as a JSON list with one entry for each PF:
//
//	[{"pciAddress": "0000:3b:00.0", "guids": ["02:00:00:00:00:00:01:00", ...]},
//	 {"pfGuid": "b8:3f:d2:03:00:5c:a1:10", "rangeStart": "02:00:00:00:00:00:02:00", "rangeEnd": "02:00:00:00:00:00:02:ff"}]
//
// VF i gets the i-th GUID of the list, or rangeStart + i. With a nil pool each VF gets a
// random GUID.
type GUIDPool struct {
	pfs []guidsOf
	err error
}

// BrokenGUIDPool returns a pool that answers every request with err. A file that cannot be
// read must not make VFs get random GUIDs that the fabric does not know.
func BrokenGUIDPool(err error) *GUIDPool { return &GUIDPool{err: err} }

// guidsOf are the GUIDs for the VFs of one PF.
type guidsOf struct {
	address     string // of the PF; "" if guid identifies it
	guid        uint64 // of the PF itself
	list        []uint64
	first, last uint64 // range with both ends included; used if list is empty
}

// ParseGUIDPool parses the JSON list. A GUID that occurs twice is an error.
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

// unique returns an error if the pool gives one GUID to two VFs.
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

// guid returns the GUID for a VF; "" means that a random one will do.
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

// parseGUID parses a GUID of eight bytes in any notation of net.ParseMAC. Of an InfiniBand
// hardware address, which has twenty bytes, it returns the last eight: the port's GUID
// (RFC 4391, 9.1.1).
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

// noGUID reports whether the kernel says that an InfiniBand VF has no GUID. The port of
// such a VF stays down.
func noGUID(pf *v1.InterfaceExt, vf *v1.VirtualFunction) bool {
	return pf.LinkType == v1.LinkTypeIB && !pf.Virtual() && vf.GUID == value.GUID(0).String()
}

// guidSteps adds to then the steps that give an InfiniBand VF of a group a GUID. A VF
// that has a GUID keeps it, for a CNI plugin may have set it. The VF's driver reads the
// GUID only while it is being bound, so a bind follows unless then has one.
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
