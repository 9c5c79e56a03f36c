// SPDX-License-Identifier: Apache-2.0

// Package netstatus builds the value of the annotation
// k8s.v1.cni.cncf.io/network-status out of CNI results (multi-net-spec,
// section 5).
package netstatus

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
)

// Entry is one element of the annotation.
type Entry struct {
	Name       string          `json:"name"` // "namespace/name" of the NAD, or CNI network name
	Interface  string          `json:"interface,omitempty"`
	IPs        []string        `json:"ips,omitempty"` // without prefix length
	MAC        string          `json:"mac,omitempty"`
	MTU        int             `json:"mtu,omitempty"`
	Default    bool            `json:"default"` // the pod's default network; one entry at most
	DNS        types.DNS       `json:"dns"`
	DeviceInfo json.RawMessage `json:"device-info,omitempty"`
	Gateway    []string        `json:"gateway,omitempty"` // of the result's default routes
	// DefaultRoute are the gateways the pod asked this attachment to serve.
	DefaultRoute []string `json:"default-route,omitempty"`
}

// Attachment is what a status is made of.
type Attachment struct {
	Name         string
	Default      bool
	Result       json.RawMessage // with its cniVersion
	DeviceInfo   json.RawMessage // nil for none
	DefaultRoute []netip.Addr
}

// Build returns one entry per interface that the result puts into the pod, and
// a minimal one when it names none: the attachment exists all the same.
func Build(a Attachment) ([]Entry, error) {
	result, err := parse(a.Result)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", a.Name, err)
	}
	var entries []Entry
	index := map[int]int{} // of the result's interfaces among the entries
	for i, nic := range result.Interfaces {
		if nic != nil && nic.Sandbox != "" {
			index[i] = len(entries)
			entries = append(entries, Entry{Name: a.Name, Interface: nic.Name, MAC: nic.Mac, MTU: nic.Mtu})
		}
	}
	if len(entries) == 0 {
		entries = []Entry{{Name: a.Name}}
	}
	main := -1 // the entry that owns an address with a gateway
	for _, ip := range result.IPs {
		if ip == nil || ip.Address.IP == nil {
			continue
		}
		at, ok := 0, true
		if ip.Interface != nil {
			at, ok = index[*ip.Interface]
		}
		if !ok {
			continue // an address of the host's end
		}
		entries[at].IPs = append(entries[at].IPs, ip.Address.IP.String())
		if ip.Gateway != nil && main < 0 {
			main = at
		}
	}
	main = max(main, 0)
	entries[main].Default = a.Default
	entries[main].Gateway = gateways(result.Routes)
	entries[main].DeviceInfo = a.DeviceInfo
	for _, gw := range a.DefaultRoute {
		entries[main].DefaultRoute = append(entries[main].DefaultRoute, gw.String())
	}
	for i := range entries {
		entries[i].DNS = result.DNS
	}
	return entries, nil
}

// Marshal prints the annotation's value.
func Marshal(entries []Entry) (string, error) {
	out, err := json.MarshalIndent(entries, "", "    ")
	return string(out), err
}

func gateways(routes []*types.Route) []string {
	var out []string
	for _, r := range routes {
		if r == nil || r.GW == nil {
			continue
		}
		if ones, _ := r.Dst.Mask.Size(); ones == 0 && r.Dst.IP.IsUnspecified() {
			out = append(out, r.GW.String())
		}
	}
	return out
}

// parse converts a result of any version to the current form.
func parse(raw json.RawMessage) (*types100.Result, error) {
	var v struct{ CNIVersion string }
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, err
	}
	result, err := create.Create(v.CNIVersion, raw)
	if err != nil {
		return nil, err
	}
	return types100.NewResultFromResult(result)
}
