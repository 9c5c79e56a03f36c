// SPDX-License-Identifier: Apache-2.0

// Package request reads what a container runtime asks for: the network's
// configuration on stdin, and CNI_ARGS. Nothing here looks at the host.
package request

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/value"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
)

// Request is a checked ADD: what to do to which VF.
type Request struct {
	Conf   Conf
	Stdin  []byte // as it came, for the IPAM plugin
	Device libsriov.Address
	PodUID string // K8S_POD_UID of CNI_ARGS; "" if the runtime does not say

	MAC net.HardwareAddr // nil: leave alone
	MTU int              // bytes; 0: leave alone

	// Admin is what to have the PF enforce, but for the rate: of its two
	// halves the one that is not given stays as it is.
	Admin            vfstate.State
	MinRate, MaxRate *uint32 // Mbit/s

	// Unknown are keys of the configuration that mean nothing to this plugin.
	Unknown []string
}

// Parse reads and checks stdin and CNI_ARGS completely. The error names each bad
// field, its value and what would be right.
func Parse(stdin []byte, args string) (Request, error) {
	if err := members(stdin, func(member) {}); err != nil { // before anything that takes long on it
		return Request{}, invalid(err)
	}
	c, err := decode(stdin)
	if f := (*cnierr.Error)(nil); errors.As(err, &f) && f.Code == types.ErrDecodingFailure {
		return Request{}, err
	}
	unknown, keysErr := checkKeys(stdin)
	if err := errors.Join(keysErr, err); err != nil {
		return Request{}, invalid(err)
	}
	r := Request{Conf: c, Stdin: stdin, Unknown: unknown}
	env, envErr := readArgs(args)
	r.PodUID = string(env.K8S_POD_UID)
	var errs [7]error
	r.Device, errs[0] = c.Device()
	r.Admin.VLAN, errs[1] = c.vlan()
	r.MAC, errs[2] = c.mac(string(env.MAC))
	r.Admin.MAC = r.MAC
	errs[3] = errors.Join(
		choose("spoofchk", c.SpoofChk, &r.Admin.SpoofCheck, switches),
		choose("trust", c.Trust, &r.Admin.Trust, switches),
		choose("link_state value", c.LinkState, &r.Admin.LinkState, linkStates))
	r.MTU, errs[4] = c.mtu()
	r.MinRate, r.MaxRate, errs[5] = c.rates()
	errs[6] = envErr
	if err := errors.Join(errs[:]...); err != nil {
		return Request{}, invalid(err)
	}
	return r, nil
}

// environment is what of CNI_ARGS means something here.
type environment struct {
	types.CommonArgs
	MAC         types.UnmarshallableString
	K8S_POD_UID types.UnmarshallableString //nolint:revive // the key
}

// readArgs reads CNI_ARGS. Other keys than MAC need IgnoreUnknown=true, as they
// always did; those of Kubernetes come with it.
func readArgs(args string) (env environment, err error) {
	if err := types.LoadArgs(args, &env); err != nil {
		return env, fmt.Errorf("invalid CNI_ARGS %.200q: %w", args, err)
	}
	return env, nil
}

// option is one of the values that a key may have.
type option[T any] struct {
	text  string
	value T
}

var (
	switches   = []option[vfstate.Switch]{{"on", vfstate.On}, {"off", vfstate.Off}}
	linkStates = []option[vfstate.LinkState]{{"auto", vfstate.LinkAuto}, {"enable", vfstate.LinkEnable}, {"disable", vfstate.LinkDisable}}
)

// choose sets to what a text stands for; "" leaves it alone.
func choose[T any](field, text string, to *T, options []option[T]) error {
	if text == "" {
		return nil
	}
	var names []string
	for _, o := range options {
		if o.text == text {
			*to = o.value
			return nil
		}
		names = append(names, fmt.Sprintf("%q", o.text))
	}
	last := len(names) - 1
	return fmt.Errorf("invalid %s %.40q: want %s or %s", field, text, strings.Join(names[:last], ", "), names[last])
}

// Device settles which VF is meant. Multus and the DRA driver put the address
// into deviceID; the others are where runtimes without them leave it.
func (c Conf) Device() (libsriov.Address, error) {
	for _, s := range []struct{ field, value string }{
		{"deviceID", c.DeviceID}, {"runtimeConfig.deviceID", c.RuntimeConfig.DeviceID},
		{"pciBusID", c.PCIBusID}, {"runtimeConfig.pciBusID", c.RuntimeConfig.PCIBusID},
	} {
		if s.value == "" {
			continue
		}
		a, err := libsriov.ParseAddress(s.value)
		if err != nil {
			return a, fmt.Errorf("invalid %s: %w", s.field, err)
		}
		if a.String() != s.value {
			return a, fmt.Errorf("invalid %s %q: want it as the kernel writes it, %q", s.field, s.value, a)
		}
		return a, nil
	}
	return libsriov.Address{}, errors.New("VF pci addr is required: no deviceID in the configuration; " +
		"does the network name its resource (annotation k8s.v1.cni.cncf.io/resourceName) and does the pod request it?")
}

func (c Conf) vlan() (*vfstate.VLAN, error) {
	if c.VLAN == nil {
		switch {
		case c.VLANQoS != nil:
			return nil, fmt.Errorf("invalid vlanQoS %d: it needs vlan to be set", *c.VLANQoS)
		case c.VLANProto != nil:
			return nil, fmt.Errorf("invalid vlanProto %.40q: it needs vlan to be set", *c.VLANProto)
		}
		return nil, nil
	}
	id, qos, proto := *c.VLAN, 0, vfstate.Proto8021Q
	if id < 0 || id > 4094 {
		return nil, fmt.Errorf("invalid vlan %d: want 0 (untagged) to 4094", id)
	}
	if c.VLANQoS != nil {
		if qos = *c.VLANQoS; qos < 0 || qos > 7 {
			return nil, fmt.Errorf("invalid vlanQoS %d: want 0 to 7", qos)
		}
		if qos != 0 && id == 0 {
			return nil, fmt.Errorf("invalid vlanQoS %d: it needs a vlan of 1 to 4094", qos)
		}
	}
	if c.VLANProto != nil {
		switch strings.ToLower(*c.VLANProto) {
		case "802.1q":
		case "802.1ad":
			if id == 0 {
				return nil, fmt.Errorf("invalid vlanProto %q: it needs a vlan of 1 to 4094", *c.VLANProto)
			}
			proto = vfstate.Proto8021AD
		default:
			return nil, fmt.Errorf(`invalid vlanProto %.40q: want "802.1q" or "802.1ad"`, *c.VLANProto)
		}
	}
	return &vfstate.VLAN{ID: uint16(id), QoS: uint8(qos), Proto: proto}, nil
}

// mac settles the address. The first that is there counts: the runtime's, that of CNI_ARGS,
// the network's.
func (c Conf) mac(ofArgs string) (net.HardwareAddr, error) {
	for _, s := range []struct{ field, value string }{
		{"runtimeConfig.mac", c.RuntimeConfig.MAC}, {"MAC in CNI_ARGS", ofArgs}, {"mac", c.MAC},
	} {
		if s.value == "" {
			continue
		}
		mac, err := net.ParseMAC(s.value)
		switch {
		case err != nil || len(mac) != 6:
			return nil, fmt.Errorf(`invalid %s %.40q: want an Ethernet address such as "ca:fe:c0:ff:ee:01"`, s.field, s.value)
		case mac[0]&1 != 0:
			return nil, fmt.Errorf("invalid %s %q: a multicast address; the first byte must be even", s.field, s.value)
		case value.NoMAC(mac):
			return nil, fmt.Errorf("invalid %s %q: all zero", s.field, s.value)
		}
		return mac, nil
	}
	return nil, nil
}

func (c Conf) mtu() (int, error) {
	switch {
	case c.MTU == nil:
		return 0, nil
	case *c.MTU < 68 || *c.MTU > 65535: // RFC 791 has no link with less than 68
		return 0, fmt.Errorf("invalid mtu %d: want 68 to 65535 bytes", *c.MTU)
	}
	return *c.MTU, nil
}

func (c Conf) rates() (lowest, highest *uint32, err error) {
	rate := func(field string, value *int) *uint32 {
		if value == nil {
			return nil
		}
		if *value < 0 || *value > 1<<31-1 {
			err = errors.Join(err, fmt.Errorf("invalid %s %d: want Mbit/s, 0 for no bound", field, *value))
		}
		return new(uint32(*value))
	}
	lowest, highest = rate("min_tx_rate", c.MinTxRate), rate("max_tx_rate", c.MaxTxRate)
	if err == nil && lowest != nil && highest != nil && *highest != 0 && *lowest > *highest {
		err = fmt.Errorf("invalid min_tx_rate %d: want at most max_tx_rate, which is %d", *lowest, *highest)
	}
	return lowest, highest, err
}

// NeedsPF names a setting that only a PF can make, "" if there is none. No VLAN
// is none: networks that the operator renders always say so. The MAC goes to the
// VF's interface, too.
func (r Request) NeedsPF() string {
	want := r.Admin
	want.MAC = nil
	if want.VLAN != nil && want.VLAN.ID == 0 {
		want.VLAN = nil
	}
	switch parts := want.Split(); {
	case len(parts) > 0:
		return parts[0].Attr + " " + parts[0].Value
	case r.MinRate != nil || r.MaxRate != nil:
		return "a rate"
	}
	return ""
}

// Want is the state to write, given the present one: a rate of which only one
// half is asked for keeps the other.
func (r Request) Want(have vfstate.State) (vfstate.State, error) {
	want := r.Admin
	if r.MinRate == nil && r.MaxRate == nil {
		return want, nil
	}
	rate := vfstate.Rate{}
	if have.Rate != nil {
		rate = *have.Rate
	}
	if r.MinRate != nil {
		rate.Min = *r.MinRate
	}
	if r.MaxRate != nil {
		rate.Max = *r.MaxRate
	}
	if rate.Max != 0 && rate.Min > rate.Max {
		return want, invalid(fmt.Errorf(
			"invalid rate: with what the VF has now, min_tx_rate is %d and max_tx_rate %d; set both", rate.Min, rate.Max))
	}
	want.Rate = &rate
	return want, nil
}
