package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
)

// conf is what arrives on stdin, as it is written there. Pointers tell a value
// of zero from none. Keys match in any case, as encoding/json has it.
type conf struct {
	types.NetConf

	DeviceID  string  `json:"deviceID"`    // PCI address of the VF
	PCIBusID  string  `json:"pciBusID"`    // the same, from a meta plugin
	VLAN      *int    `json:"vlan"`        // 0 to 4094; 0 is untagged
	VLANQoS   *int    `json:"vlanQoS"`     // 0 to 7
	VLANProto *string `json:"vlanProto"`   // 802.1q, 802.1ad
	MAC       string  `json:"mac"`         // Ethernet address of the VF
	MTU       *int    `json:"mtu"`         // bytes
	SpoofChk  string  `json:"spoofchk"`    // on, off
	Trust     string  `json:"trust"`       // on, off
	LinkState string  `json:"link_state"`  // auto, enable, disable
	MinTxRate *int    `json:"min_tx_rate"` // Mbit/s; 0 is no bound
	MaxTxRate *int    `json:"max_tx_rate"` // Mbit/s; 0 is no bound
	LogLevel  string  `json:"logLevel"`
	LogFile   string  `json:"logFile"`

	RuntimeConfig struct {
		MAC      string `json:"mac,omitempty"`
		DeviceID string `json:"deviceID,omitempty"`
		PCIBusID string `json:"pciBusID,omitempty"`
	} `json:"runtimeConfig"`
}

// request is a checked ADD: what to do to which VF. Nothing of the host has
// been looked at.
type request struct {
	conf   conf
	stdin  []byte // as it came, for the IPAM plugin
	Device libsriov.Address

	MAC net.HardwareAddr // nil: leave alone
	MTU int              // bytes; 0: leave alone

	// Admin is what to have the PF enforce, but for the rate: of its two
	// halves the one that is not given stays as it is.
	Admin            vfstate.State
	MinRate, MaxRate *uint32 // Mbit/s

	// Unknown are keys of the configuration that mean nothing to this plugin.
	Unknown []string
}

// parseRequest reads and checks stdin and CNI_ARGS completely. It touches
// nothing. The error names each bad field, its value and what would be right.
func parseRequest(stdin []byte, args string) (request, error) {
	if _, err := members(stdin); err != nil {
		return request{}, &failure{Code: types.ErrInvalidNetworkConfig, Err: err}
	}
	c, decodeErr := decodeConf(stdin)
	if f := (*failure)(nil); errors.As(decodeErr, &f) && f.Code == types.ErrDecodingFailure {
		return request{}, decodeErr
	}
	unknown, err := checkKeys(stdin)
	if err := errors.Join(err, decodeErr); err != nil {
		return request{}, &failure{Code: types.ErrInvalidNetworkConfig, Err: err}
	}
	r := request{conf: c, stdin: stdin, Unknown: unknown}

	var errs []error
	bad := func(field string, value any, want string) {
		errs = append(errs, fmt.Errorf("invalid %s %#v: want %s", field, value, want))
	}
	if r.Device, err = c.device(); err != nil {
		errs = append(errs, err)
	}
	if r.Admin.VLAN, err = c.vlan(); err != nil {
		errs = append(errs, err)
	}
	if r.MAC, err = c.mac(args); err != nil {
		errs = append(errs, err)
	}
	r.Admin.MAC = r.MAC
	for _, s := range []struct {
		field, value string
		to           *vfstate.Switch
	}{{"spoofchk", c.SpoofChk, &r.Admin.SpoofCheck}, {"trust", c.Trust, &r.Admin.Trust}} {
		switch s.value {
		case "":
		case "on", "off":
			*s.to = vfstate.SwitchOf(s.value == "on")
		default:
			bad(s.field, s.value, `"on" or "off"`)
		}
	}
	switch c.LinkState {
	case "":
	case "auto":
		r.Admin.LinkState = vfstate.LinkAuto
	case "enable":
		r.Admin.LinkState = vfstate.LinkEnable
	case "disable":
		r.Admin.LinkState = vfstate.LinkDisable
	default:
		bad("link_state value", c.LinkState, `"auto", "enable" or "disable"`)
	}
	if c.MTU != nil {
		if r.MTU = *c.MTU; r.MTU < 68 || r.MTU > 65535 { // RFC 791 has no link with less than 68
			bad("mtu", *c.MTU, "68 to 65535 bytes")
		}
	}
	for _, s := range []struct {
		field string
		value *int
		to    **uint32
	}{{"min_tx_rate", c.MinTxRate, &r.MinRate}, {"max_tx_rate", c.MaxTxRate, &r.MaxRate}} {
		if s.value == nil {
			continue
		}
		if *s.value < 0 || *s.value > 1<<31-1 {
			bad(s.field, *s.value, "Mbit/s, 0 for no bound")
		}
		*s.to = new(uint32(*s.value))
	}
	if r.MinRate != nil && r.MaxRate != nil && *r.MaxRate != 0 && *r.MinRate > *r.MaxRate {
		bad("min_tx_rate", *c.MinTxRate, fmt.Sprintf("at most max_tx_rate, which is %d", *c.MaxTxRate))
	}
	if len(errs) > 0 {
		return request{}, &failure{Code: types.ErrInvalidNetworkConfig, Err: errors.Join(errs...)}
	}
	return r, nil
}

// decodeConf reads the whole configuration.
func decodeConf(stdin []byte) (conf, error) {
	var c conf
	if err := json.Unmarshal(stdin, &c); err != nil {
		f := &failure{Code: types.ErrDecodingFailure, Err: fmt.Errorf("configuration is not valid JSON: %w", err)}
		if typeErr := (*json.UnmarshalTypeError)(nil); errors.As(err, &typeErr) {
			f.Code = types.ErrInvalidNetworkConfig
			f.Err = fmt.Errorf("invalid %s: a JSON %s, want %s", orConfiguration(strings.TrimPrefix(typeErr.Field, "NetConf.")), typeErr.Value, typeErr.Type)
		}
		return conf{}, f
	}
	return c, nil
}

// decodeBasics reads what every command but ADD and CHECK goes by, and each key
// by itself: an attachment has to go even if its network's configuration has
// become one that ADD refuses.
func decodeBasics(stdin []byte) (conf, error) {
	all, err := members(stdin)
	if err != nil {
		return conf{}, &failure{Code: types.ErrInvalidNetworkConfig, Err: err}
	}
	if !json.Valid(stdin) {
		return decodeConf(stdin)
	}
	var c conf
	for _, m := range all {
		switch m.key {
		case "cniVersion":
			_ = json.Unmarshal(m.value, &c.CNIVersion)
		case "name":
			_ = json.Unmarshal(m.value, &c.Name)
		case "ipam":
			_ = json.Unmarshal(m.value, &c.IPAM)
		case "deviceID":
			_ = json.Unmarshal(m.value, &c.DeviceID)
		case "logLevel":
			_ = json.Unmarshal(m.value, &c.LogLevel)
		case "logFile":
			_ = json.Unmarshal(m.value, &c.LogFile)
		case validAttachments:
			if err := json.Unmarshal(m.value, &c.ValidAttachments); err != nil {
				return conf{}, &failure{Code: types.ErrInvalidNetworkConfig, Err: fmt.Errorf("invalid %s: %w", m.key, err)}
			}
		}
	}
	return c, nil
}

// device settles which VF is meant. Multus and the DRA driver put the address
// into deviceID; the others are where runtimes without them leave it.
func (c conf) device() (libsriov.Address, error) {
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

func (c conf) vlan() (*vfstate.VLAN, error) {
	if c.VLAN == nil {
		switch {
		case c.VLANQoS != nil:
			return nil, fmt.Errorf("invalid vlanQoS %d: it needs vlan to be set", *c.VLANQoS)
		case c.VLANProto != nil:
			return nil, fmt.Errorf("invalid vlanProto %q: it needs vlan to be set", *c.VLANProto)
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
			return nil, fmt.Errorf(`invalid vlanProto %q: want "802.1q" or "802.1ad"`, *c.VLANProto)
		}
	}
	return &vfstate.VLAN{ID: uint16(id), QoS: uint8(qos), Proto: proto}, nil
}

// mac settles the address: the runtime's over CNI_ARGS' over the network's.
func (c conf) mac(args string) (net.HardwareAddr, error) {
	var env struct {
		types.CommonArgs
		MAC types.UnmarshallableString
	}
	if err := types.LoadArgs(args, &env); err != nil {
		return nil, fmt.Errorf("invalid CNI_ARGS %.200q: %w", args, err)
	}
	for _, s := range []struct{ field, value string }{
		{"runtimeConfig.mac", c.RuntimeConfig.MAC}, {"MAC in CNI_ARGS", string(env.MAC)}, {"mac", c.MAC},
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
		case !slices.ContainsFunc(mac, func(b byte) bool { return b != 0 }):
			return nil, fmt.Errorf("invalid %s %q: all zero", s.field, s.value)
		}
		return mac, nil
	}
	return nil, nil
}

// needsPF names a setting that only a PF can make, "" if there is none. No VLAN
// is none: networks that the operator renders always say so. The MAC goes to the
// VF's interface, too.
func (r request) needsPF() string {
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

// admin is the state to write, given the present one: a rate of which only one
// half is asked for keeps the other.
func (r request) admin(have vfstate.State) (vfstate.State, error) {
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
		return want, &failure{Code: types.ErrInvalidNetworkConfig, Err: fmt.Errorf(
			"invalid rate: with what the VF has now, min_tx_rate is %d and max_tx_rate %d; set both", rate.Min, rate.Max)}
	}
	want.Rate = &rate
	return want, nil
}
