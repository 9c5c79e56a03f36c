// SPDX-License-Identifier: Apache-2.0

package request

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
)

// Conf is what arrives on stdin, as it is written there. Pointers tell a value
// of zero from none. Its keys are all that are known.
type Conf struct {
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
	LogLevel  string  `json:"logLevel"`    // panic, error, warning, info, debug
	LogFile   string  `json:"logFile"`     // beneath the node's log directory; else stderr

	RuntimeConfig RuntimeConfig `json:"runtimeConfig"`

	// What runtimes and meta plugins add for themselves.
	Args         json.RawMessage `json:"args"`         // not used
	DisableCheck json.RawMessage `json:"disableCheck"` // for the runtime
	DisableGC    json.RawMessage `json:"disableGC"`    // for the runtime
}

// RuntimeConfig is what the runtime fills in for a capability.
type RuntimeConfig struct {
	MAC      string `json:"mac,omitempty"`      // wins over mac
	DeviceID string `json:"deviceID,omitempty"` // where deviceID is absent
	PCIBusID string `json:"pciBusID,omitempty"` // where the others are absent
}

// decode reads the whole configuration.
func decode(stdin []byte) (Conf, error) {
	var c Conf
	err := json.Unmarshal(stdin, &c)
	if typeErr := (*json.UnmarshalTypeError)(nil); errors.As(err, &typeErr) {
		want := typeErr.Type.String()
		if typeErr.Type.Kind() == reflect.Struct {
			want = "object"
		}
		return Conf{}, invalid(fmt.Errorf("invalid %s: a JSON %.60s, want %s",
			orConfiguration(strings.TrimPrefix(typeErr.Field, "NetConf.")), typeErr.Value, want))
	}
	if err != nil {
		return Conf{}, cnierr.New(types.ErrDecodingFailure, fmt.Errorf("configuration is not valid JSON: %w", err), "")
	}
	return c, nil
}

func invalid(err error) error { return cnierr.New(types.ErrInvalidNetworkConfig, err, "") }

// Basics reads what every command but ADD and CHECK goes by, and each key by
// itself: an attachment has to go even if its network's configuration has become
// one that ADD refuses.
func Basics(stdin []byte) (Conf, error) {
	var c Conf
	read := map[string]any{
		"cniVersion": &c.CNIVersion, "name": &c.Name, "ipam": &c.IPAM, "deviceID": &c.DeviceID, "pciBusID": &c.PCIBusID, "runtimeConfig": &c.RuntimeConfig, "logLevel": &c.LogLevel, "logFile": &c.LogFile,
	}
	err := members(stdin, func(m member) {
		if to := read[m.key]; to != nil {
			_ = json.Unmarshal(m.value, to)
		}
	})
	switch {
	case err != nil:
		return Conf{}, invalid(err)
	case !json.Valid(stdin):
		return decode(stdin)
	}
	return c, nil
}

// Valid reads the list of what GC is to leave alone. What is not understood would be
// collected, so it is an error, and so is a list that is not there.
func Valid(stdin []byte) (all []types.GCAttachment, err error) {
	fail := func(format string, args ...any) ([]types.GCAttachment, error) {
		return nil, invalid(fmt.Errorf("invalid "+ValidAttachments+": "+format, args...))
	}
	var list []byte
	twice := false
	err = members(stdin, func(m member) {
		if m.key == ValidAttachments {
			list, twice = m.value, list != nil
		}
	})
	switch {
	case err != nil:
		return nil, invalid(err)
	case twice:
		return fail("the key is there twice")
	case list != nil:
		if err := json.Unmarshal(list, &all); err != nil {
			return fail("%w", err)
		}
	}
	if all == nil {
		return nil, invalid(errors.New("GC needs " + ValidAttachments + ", the list of what is to stay; an empty list is none"))
	}
	for i, a := range all {
		if a.ContainerID == "" || a.IfName == "" {
			return fail("attachment %d has containerID %q and ifname %q", i, a.ContainerID, a.IfName)
		}
	}
	return all, nil
}
