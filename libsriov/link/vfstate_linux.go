// SPDX-License-Identifier: Apache-2.0

package link

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov/internal/nl"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// VFStates reads what a PF enforces for each of its VFs, by VF index. Answers
// of any size are read whole; statistics are not asked for.
func (c *Conn) VFStates(pfIndex int) (map[int]vfstate.State, error) {
	states, _, err := c.vfStates(pfIndex)
	return states, err
}

// vfStates is VFStates; reported is whether the driver has a list of VFs and
// there are any.
func (c *Conn) vfStates(pfIndex int) (states map[int]vfstate.State, reported bool, err error) {
	info := vnl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = int32(pfIndex)
	out, err := c.socket.Execute(nl.Request(unix.RTM_GETLINK, 0, info, extMask(filterVF|filterSkipStats)))
	if errors.Is(err, unix.ENODEV) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, false, fmt.Errorf("VF state of interface %d: %w", pfIndex, err)
	}
	if len(out) != 1 {
		return nil, false, fmt.Errorf("VF state of interface %d: kernel sent %d answers", pfIndex, len(out))
	}
	states, reported, err = parseVFStates(out[0])
	if err != nil {
		return nil, false, fmt.Errorf("VF state of interface %d: %w", pfIndex, err)
	}
	return states, reported, nil
}

// VFState is VFStates for one VF; ErrNoVF if it is not among them,
// ErrNoVFReported if none is, ErrNoVFSettings if none ever is. The kernel has no request for a single one.
func (c *Conn) VFState(pfIndex, vf int) (vfstate.State, error) {
	states, reported, err := c.vfStates(pfIndex)
	if err != nil {
		return vfstate.State{}, err
	}
	if !reported {
		return vfstate.State{}, fmt.Errorf("VF %d of interface %d: %w", vf, pfIndex, ErrNoVFSettings)
	}
	s, ok := states[vf]
	if len(states) == 0 {
		return s, fmt.Errorf("VF %d of interface %d: %w", vf, pfIndex, ErrNoVFReported)
	}
	if !ok {
		return s, fmt.Errorf("VF %d of interface %d, which has %d: %w", vf, pfIndex, len(states), ErrNoVF)
	}
	return s, nil
}

// parseVFStates finds IFLA_VFINFO_LIST in a RTM_NEWLINK message.
func parseVFStates(m []byte) (states map[int]vfstate.State, reported bool, err error) {
	if len(m) < unix.SizeofIfInfomsg {
		return nil, false, errTooShort
	}
	states = map[int]vfstate.State{}
	var broken error
	listed, none := false, false
	one := func(kind uint16, info []byte) {
		if kind != vnl.IFLA_VF_INFO {
			return
		}
		vf, s, err := parseVF(info)
		if err != nil {
			broken = errors.Join(broken, err)
			return
		}
		states[vf] = s
	}
	err = nl.Nested(m[unix.SizeofIfInfomsg:], func(kind uint16, list []byte) {
		switch kind {
		case unix.IFLA_NUM_VF:
			none = number(list) == 0
		case unix.IFLA_VFINFO_LIST:
			listed = true
			err := nl.Nested(list, one)
			broken = errors.Join(broken, err)
		}
	})
	return states, listed && !none, errors.Join(err, broken)
}

// parseVF reads one IFLA_VF_INFO.
func parseVF(b []byte) (vf int, s vfstate.State, err error) {
	vf = -1
	err = nl.Nested(b, func(kind uint16, v []byte) { vf = max(vf, s.Decode(kind, v)) })
	if err == nil && vf < 0 {
		err = errors.New("VF without an index")
	}
	return vf, s, err
}

// SetVF writes the fields of a state that are set, all in one request; no field
// set is no request. The error is an *AttributeError that names the first field
// the driver refused; fields before it, in the order of [vfstate.State.Split],
// are written, those behind it are not.
func (c *Conn) SetVF(pfIndex, vf int, s vfstate.State) error {
	parts := s.Split()
	if len(parts) == 0 {
		return nil
	}
	err := c.setVF(pfIndex, vf, s)
	if err == nil || len(parts) == 1 {
		return attributeError(vf, parts[0], err)
	}
	// The kernel stops at the field that fails but does not say which one it
	// is. Writing them one by one finds it; those that are in force already are
	// left out, for a driver may reset the VF for each.
	switch have, readErr := c.VFState(pfIndex, vf); {
	case readErr == nil:
		parts = vfstate.Diff(have, s).Split()
	case errors.Is(readErr, ErrNoVF) && (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EBUSY)): // it resets
		return attributeError(vf, vfstate.Part{Attr: "one of " + names(parts)}, err)
	}
	for _, p := range parts {
		if err := c.setVF(pfIndex, vf, p.State); err != nil {
			return attributeError(vf, p, err)
		}
	}
	return nil // each was accepted by itself: the first refusal was a passing one
}

func names(parts []vfstate.Part) string {
	var all []string
	for _, p := range parts {
		all = append(all, p.Attr)
	}
	return strings.Join(all, ", ")
}

func attributeError(vf int, p vfstate.Part, err error) error {
	if err == nil {
		return nil
	}
	return &AttributeError{VF: vf, Attr: p.Attr, Value: p.Value, Err: err}
}

func (c *Conn) setVF(pfIndex, vf int, s vfstate.State) error {
	info := vnl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = int32(pfIndex)
	list := vnl.NewRtAttr(unix.IFLA_VFINFO_LIST|unix.NLA_F_NESTED, nil)
	one := list.AddRtAttr(vnl.IFLA_VF_INFO|unix.NLA_F_NESTED, nil)
	s.Encode(vf, func(attr uint16, payload []byte) { one.AddRtAttr(int(attr), payload) })
	_, err := c.socket.Execute(nl.Request(unix.RTM_SETLINK, 0, info, list))
	return err
}
