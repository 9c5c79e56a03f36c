// SPDX-License-Identifier: Apache-2.0

// Package nad renders networks into NetworkAttachmentDefinitions.
//
// It is pure, and it marshals structures: what users write into a field can become
// the value of that field and nothing else. Text that claims to be JSON (ipam,
// capabilities, metaPlugins) is decoded and checked before it is put in its place,
// and its strings arrive byte for byte. It is bounded in bytes and depth before any work,
// and in a network outside of the operator's namespace it may not name devices or paths
// of the node (see tenant.go).
package nad

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

const (
	// textLimit of a free-text field, bytes: also what the CRDs allow, but an object may be
	// older than they are.
	textLimit = 16 << 10
	// depthLimit of JSON in a free-text field. Indenting costs depth times length.
	depthLimit = 32
	// indentLimit of a configuration, bytes: a longer one is written without white space.
	indentLimit = 48 << 10
)

// cniVersion of the rendered configurations.
const cniVersion = "1.0.0"

// sriovConf is the configuration of the sriov plugin. vlan and vlanQoS are always
// there, also as 0: they tell the plugin to clear what an earlier user left.
type sriovConf struct {
	Type         string          `json:"type"`
	Vlan         int             `json:"vlan"`
	SpoofChk     string          `json:"spoofchk,omitempty"`
	Trust        string          `json:"trust,omitempty"`
	VlanQoS      int             `json:"vlanQoS"`
	VlanProto    string          `json:"vlanProto,omitempty"`
	MinTxRate    *int            `json:"min_tx_rate,omitempty"` // Mbit/s
	MaxTxRate    *int            `json:"max_tx_rate,omitempty"` // Mbit/s
	MTU          int             `json:"mtu,omitempty"`         // bytes
	Capabilities json.RawMessage `json:"capabilities,omitempty"`
	LinkState    string          `json:"link_state,omitempty"`
	LogLevel     string          `json:"logLevel,omitempty"`
	LogFile      string          `json:"logFile,omitempty"`
	IPAM         json.RawMessage `json:"ipam"`
}

// ibConf is the configuration of the ib-sriov plugin.
type ibConf struct {
	Type         string          `json:"type"`
	Capabilities json.RawMessage `json:"capabilities,omitempty"`
	LinkState    string          `json:"link_state,omitempty"`
	IPAM         json.RawMessage `json:"ipam"`
}

// ovsConf is the configuration of the ovs plugin.
type ovsConf struct {
	Type          string            `json:"type"`
	Capabilities  json.RawMessage   `json:"capabilities,omitempty"`
	Bridge        string            `json:"bridge,omitempty"`
	Vlan          uint              `json:"vlan,omitempty"`
	MTU           uint              `json:"mtu,omitempty"`
	Trunk         []*v1.TrunkConfig `json:"trunk,omitempty"`
	InterfaceType string            `json:"interface_type,omitempty"`
	IPAM          json.RawMessage   `json:"ipam"`
}

// Sriov renders a SriovNetwork into a CNI configuration.
func Sriov(name string, s *v1.SriovNetworkSpec) (string, error) {
	var d decoder
	c := sriovConf{
		Type: "sriov", Vlan: s.Vlan, SpoofChk: s.SpoofChk, Trust: s.Trust, VlanQoS: s.VlanQoS, VlanProto: s.VlanProto,
		MinTxRate: s.MinTxRate, MaxTxRate: s.MaxTxRate, Capabilities: d.capabilities(s.Capabilities), LinkState: s.LinkState,
		MTU: s.Mtu, LogLevel: s.LogLevel, LogFile: s.LogFile, IPAM: d.ipam(s.IPAM),
	}
	d.check(s.Vlan >= 0 && s.Vlan <= 4094, "vlan %d: want 0 to 4094", s.Vlan)
	d.check(s.Mtu == 0 || s.Mtu >= 68 && s.Mtu <= 65535, "mtu %d: want 68 to 65535", s.Mtu)
	d.check(s.VlanQoS >= 0 && s.VlanQoS <= 7, "vlanQoS %d: want 0 to 7", s.VlanQoS)
	if s.MinTxRate != nil && s.MaxTxRate != nil && *s.MaxTxRate != 0 {
		d.check(*s.MinTxRate <= *s.MaxTxRate, "minTxRate %d exceeds maxTxRate %d", *s.MinTxRate, *s.MaxTxRate)
	}
	return render(name, c, d.plugins(s.MetaPluginsConfig), d.errs)
}

// IB renders a SriovIBNetwork into a CNI configuration.
func IB(name string, s *v1.SriovIBNetworkSpec) (string, error) {
	var d decoder
	c := ibConf{Type: "ib-sriov", Capabilities: d.capabilities(s.Capabilities), LinkState: s.LinkState, IPAM: d.ipam(s.IPAM)}
	return render(name, c, d.plugins(s.MetaPluginsConfig), d.errs)
}

// OVS renders an OVSNetwork into a CNI configuration.
func OVS(name string, s *v1.OVSNetworkSpec) (string, error) {
	var d decoder
	c := ovsConf{
		Type: "ovs", Capabilities: d.capabilities(s.Capabilities), Bridge: s.Bridge, Vlan: s.Vlan, MTU: s.MTU,
		Trunk: s.Trunk, InterfaceType: s.InterfaceType, IPAM: d.ipam(s.IPAM),
	}
	return render(name, c, d.plugins(s.MetaPluginsConfig), d.errs)
}

// render puts the plugin alone, or at the head of its chain, under the network's name.
func render(name string, plugin any, chain []json.RawMessage, errs []error) (string, error) {
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	head := struct {
		CNIVersion string `json:"cniVersion"`
		Name       string `json:"name"`
	}{cniVersion, name}
	body := plugin
	if chain != nil {
		body = struct {
			Plugins []any `json:"plugins"`
		}{append([]any{plugin}, anySlice(chain)...)}
	}
	h, err := encode(head)
	if err != nil {
		return "", err
	}
	b, err := encode(body)
	if err != nil {
		return "", err
	}
	// Two objects, neither empty, become one: {"a":1} and {"b":2} to {"a":1,"b":2}.
	joined := append(append(h[:len(h)-1], ','), b[1:]...)
	var out bytes.Buffer
	if err := json.Indent(&out, joined, "", "    "); err != nil {
		return "", fmt.Errorf("indent CNI configuration: %w", err)
	}
	if out.Len() > indentLimit {
		return string(joined), nil
	}
	return out.String(), nil
}

// encode marshals without turning <, > and & into escapes.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode CNI configuration: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

func anySlice(in []json.RawMessage) []any {
	out := make([]any, len(in))
	for i := range in {
		out[i] = in[i]
	}
	return out
}

// decoder turns the free-text fields into JSON and collects what is wrong with them.
type decoder struct{ errs []error }

func (d *decoder) check(ok bool, format string, args ...any) {
	if !ok {
		d.errs = append(d.errs, fmt.Errorf(format, args...))
	}
}

// bounded reports whether a field is small and flat enough to be looked at.
func (d *decoder) bounded(field, s string) bool {
	if len(s) > textLimit {
		d.check(false, "%s: %d bytes, want at most %d", field, len(s), textLimit)
		return false
	}
	if deep := depth(s); deep > depthLimit {
		d.check(false, "%s: nested %d deep, want at most %d", field, deep, depthLimit)
		return false
	}
	return true
}

// depth of what may be JSON: objects and lists within each other.
func depth(s string) (deepest int) {
	open, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			open++
			deepest = max(deepest, open)
		case c == '}' || c == ']':
			open--
		}
	}
	return deepest
}

func (d *decoder) ipam(s string) json.RawMessage {
	if strings.TrimSpace(s) == "" || !d.bounded("ipam", s) {
		return json.RawMessage("{}")
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s), &object); err != nil || object == nil {
		d.check(false, `ipam: want a JSON object such as {"type": "host-local", ...}: %s`, reason(err))
		return nil
	}
	return json.RawMessage(s)
}

func (d *decoder) capabilities(s string) json.RawMessage {
	if strings.TrimSpace(s) == "" || !d.bounded("capabilities", s) {
		return nil
	}
	var object map[string]bool
	if err := json.Unmarshal([]byte(s), &object); err != nil || object == nil {
		d.check(false, `capabilities: want a JSON object of booleans such as {"mac": true}: %s`, reason(err))
		return nil
	}
	return json.RawMessage(s)
}

func (d *decoder) plugins(s string) []json.RawMessage {
	if strings.TrimSpace(s) == "" || !d.bounded("metaPlugins", s) {
		return nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal([]byte("["+s+"]"), &list); err != nil {
		d.check(false, `metaPlugins: want JSON objects separated by commas, such as {"type": "tuning"}: %s`, reason(err))
		return nil
	}
	for i, p := range list {
		var plugin struct {
			Type string `json:"type"`
		}
		err := json.Unmarshal(p, &plugin)
		if err != nil || plugin.Type == "" {
			d.check(false, `metaPlugins: entry %d: want an object with a "type": %s`, i+1, reason(err))
			break // there may be thousands
		}
	}
	return list
}

func reason(err error) string {
	if err == nil {
		return "it is something else"
	}
	return err.Error()
}
