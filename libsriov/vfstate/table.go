// SPDX-License-Identifier: Apache-2.0

package vfstate

import (
	"bytes"
	"fmt"
	"net"
)

// Attributes of a State, by the names that messages use.
const (
	AttrMAC        = "mac"
	AttrVLAN       = "vlan"
	AttrRate       = "rate"
	AttrSpoofCheck = "spoofchk"
	AttrLinkState  = "link state"
	AttrQueryRSS   = "query_rss"
	AttrTrust      = "trust"
	AttrNodeGUID   = "node guid"
	AttrPortGUID   = "port guid"
)

// attributes has a row for each field of State. Everything that goes over the
// fields walks it, so that a field more is a row more. The order is the
// kernel's own (do_setvfinfo in net/core/rtnetlink.c).
var attributes = []attribute{
	row(AttrMAC, func(s *State) *net.HardwareAddr { return &s.MAC }, kind[net.HardwareAddr]{
		isSet: func(m net.HardwareAddr) bool { return m != nil },
		equal: func(a, b net.HardwareAddr) bool { return bytes.Equal(a, b) },
		wire:  macWire,
	}),
	row(AttrVLAN, func(s *State) **VLAN { return &s.VLAN }, kind[*VLAN]{
		isSet: isSet[VLAN],
		equal: func(a, b *VLAN) bool { return a != nil && b != nil && a.normal() == b.normal() },
		text:  func(v *VLAN) string { return fmt.Sprintf("%d qos %d proto %s", v.ID, v.QoS, v.Proto) },
		wire:  vlanWire,
	}),
	row(AttrRate, func(s *State) **Rate { return &s.Rate }, pointer(rateWire, func(r *Rate) string {
		return fmt.Sprintf("%d to %d Mbit/s", r.Min, r.Max)
	})),
	row(AttrSpoofCheck, func(s *State) *Switch { return &s.SpoofCheck }, scalar(switchWire(iflaSpoofCheck))),
	row(AttrLinkState, func(s *State) *LinkState { return &s.LinkState }, scalar(linkStateWire)),
	row(AttrQueryRSS, func(s *State) *Switch { return &s.QueryRSS }, scalar(switchWire(iflaQueryRSS))),
	row(AttrTrust, func(s *State) *Switch { return &s.Trust }, scalar(switchWire(iflaTrust))),
	row(AttrNodeGUID, func(s *State) **GUID { return &s.NodeGUID }, pointer(guidWire(iflaNodeGUID), (*GUID).String)),
	row(AttrPortGUID, func(s *State) **GUID { return &s.PortGUID }, pointer(guidWire(iflaPortGUID), (*GUID).String)),
}

// attribute is what can be done with one field of any State.
type attribute struct {
	name   string
	isSet  func(s State) bool
	equal  func(a, b State) bool
	text   func(s State) string
	take   func(to *State, from State) // the field of from, set or not
	encode func(vf uint32, s State) (kind uint16, payload []byte)
	decode func(kind uint16, payload []byte, s *State)
}

// kind is how fields of one type behave.
type kind[T any] struct {
	isSet func(T) bool
	equal func(a, b T) bool // of two that are set, or one and one that is not
	text  func(T) string    // nil is fmt's
	wire  wire[T]
}

func row[T any](name string, at func(*State) *T, k kind[T]) attribute {
	if k.text == nil {
		k.text = func(v T) string { return fmt.Sprint(v) }
	}
	return attribute{
		name:   name,
		isSet:  func(s State) bool { return k.isSet(*at(&s)) },
		equal:  func(a, b State) bool { return k.equal(*at(&a), *at(&b)) },
		text:   func(s State) string { return k.text(*at(&s)) },
		take:   func(to *State, from State) { *at(to) = *at(&from) },
		encode: func(vf uint32, s State) (uint16, []byte) { return k.wire.encode(vf, *at(&s)) },
		decode: func(attr uint16, b []byte, s *State) {
			if v, ok := k.wire.decode(attr, b, *at(s)); ok {
				*at(s) = v
			}
		},
	}
}

func isSet[T any](p *T) bool { return p != nil }

// pointer is the kind of fields that are nil when they are not set.
func pointer[T comparable](w wire[*T], text func(*T) string) kind[*T] {
	return kind[*T]{isSet: isSet[T], equal: func(a, b *T) bool { return a != nil && b != nil && *a == *b }, text: text, wire: w}
}

// scalar is the kind of fields that have a value for not being set, zero.
func scalar[T comparable](w wire[T]) kind[T] {
	var unset T
	return kind[T]{isSet: func(v T) bool { return v != unset }, equal: func(a, b T) bool { return a == b }, wire: w}
}

// Diff is the part of want that have does not show yet: what must be written to
// get there. The way back is Diff of a new reading and the old one.
func Diff(have, want State) State {
	var d State
	for _, a := range attributes {
		if a.isSet(want) && !a.equal(have, want) {
			a.take(&d, want)
		}
	}
	return d
}

// Restrict is s without the fields that are not set in to: of a former state,
// the part that a change concerns.
func (s State) Restrict(to State) State {
	var out State
	for _, a := range attributes {
		if a.isSet(to) {
			a.take(&out, s)
		}
	}
	return out
}

// With returns a copy of s in which the fields that are set in over replace those of s.
func (s State) With(over State) State {
	for _, a := range attributes {
		if a.isSet(over) {
			a.take(&s, over)
		}
	}
	return s
}

// Split takes a state apart into one for each field that is set, in the order
// in which the kernel handles them.
func (s State) Split() []Part {
	var parts []Part
	for _, a := range attributes {
		if a.isSet(s) {
			p := Part{Attr: a.name, Value: a.text(s)}
			a.take(&p.State, s)
			parts = append(parts, p)
		}
	}
	return parts
}

// Part is one field of a State, with its name and value for a message.
type Part struct {
	Attr, Value string
	State       State
}

// IsZero reports whether no field is set.
func (s State) IsZero() bool {
	for _, a := range attributes {
		if a.isSet(s) {
			return false
		}
	}
	return true
}
