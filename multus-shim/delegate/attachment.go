// SPDX-License-Identifier: Apache-2.0

// Package delegate runs the CNI plugins of one attachment: one network of one
// container. It follows the chain rules of the CNI specification (sections 3
// and 4) as libcni does, with two differences that need code of its own: what
// a plugin reads on stdin keeps the digits of its configuration, and what DEL
// and CHECK hand over is what the caller recorded, not what a cache holds.
// Plugins run in a process group of their own and do not outlive the deadline.
package delegate

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/pkg/version"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
	"github.com/sriovkit/sriovkit/multus-shim/rawjson"
)

// Attachment is all that is needed to run a network's plugins for an interface
// of a container, today or after a restart.
type Attachment struct {
	Network      string            `json:"network"` // for people: "namespace/name" of the NAD, or Name
	Ifname       string            `json:"ifname"`
	Name         string            `json:"name"`                 // CNI network name
	CNIVersion   string            `json:"cniVersion,omitempty"` // "" is 0.1.0
	DisableCheck bool              `json:"disableCheck,omitempty"`
	DisableGC    bool              `json:"disableGC,omitempty"`
	SeedResult   bool              `json:"seedResult,omitempty"` // the first plugin continues from an empty result
	Plugins      []json.RawMessage `json:"plugins"`              // in order of ADD, compact JSON objects
	// CapabilityArgs go into runtimeConfig of the plugins that declare them.
	CapabilityArgs map[string]json.RawMessage `json:"capabilityArgs,omitempty"`
	Args           conf.Args                  `json:"args,omitempty"` // CNI_ARGS
	// DeviceInfo is the file of the Device Information specification, "" if
	// the attachment has none.
	DeviceInfo string `json:"deviceInfo,omitempty"`
}

// Container is where the plugins act.
type Container struct {
	ID    string
	Netns string // "" when it is gone
}

// plugin is the part of a plugin's configuration that chains need.
type plugin struct {
	Type         string
	Capabilities map[string]bool
	object       rawjson.Object
}

func (a Attachment) parse() ([]plugin, error) {
	plugins := make([]plugin, 0, len(a.Plugins))
	for _, raw := range a.Plugins {
		object, err := rawjson.ParseTrusted(raw)
		if err != nil {
			return nil, err
		}
		p := plugin{object: object}
		if err := object.Decode("type", &p.Type); err != nil {
			return nil, err
		}
		if err := object.Decode("capabilities", &p.Capabilities); err != nil {
			return nil, err
		}
		plugins = append(plugins, p)
	}
	return plugins, nil
}

// Check finds what no configuration has that was run: plugins that are no objects, or name no
// binary. It is how a damaged record shows.
func (a Attachment) Check() error {
	plugins, err := a.parse()
	if err != nil {
		return err
	}
	for _, p := range plugins {
		if p.Type == "" || p.Type != filepath.Base(p.Type) {
			return fmt.Errorf("plugin type %q: want the name of a binary", brief.Text(p.Type))
		}
	}
	return nil
}

// stdin is what the plugin reads: its configuration with the members that the
// runtime owns (CNI specification, "Deriving execution configuration").
func (a Attachment) stdin(p plugin, members ...rawjson.Member) json.RawMessage {
	out := p.object.With("name", rawjson.Marshal(a.Name)).With("cniVersion", rawjson.Marshal(a.version()))
	runtime := rawjson.Object{}
	for _, key := range declared(p.Capabilities) {
		if value, ok := a.CapabilityArgs[key]; ok {
			runtime = append(runtime, rawjson.Member{Key: key, Value: value})
		}
	}
	if len(runtime) > 0 {
		out = out.With("runtimeConfig", runtime.Bytes())
	}
	for _, m := range members {
		if m.Value != nil {
			out = out.With(m.Key, m.Value)
		}
	}
	return out.Bytes()
}

// List prints the attachment as the configuration list it came from.
func (a Attachment) List() json.RawMessage {
	return rawjson.Object{
		{Key: "cniVersion", Value: rawjson.Marshal(a.version())},
		{Key: "name", Value: rawjson.Marshal(a.Name)},
		{Key: "plugins", Value: rawjson.Marshal(a.Plugins)},
	}.Bytes()
}

// NetworkKey is the same for all attachments of one network: its configuration
// without what was put in for a container.
func (a Attachment) NetworkKey() string {
	key := a.version() + " " + a.Name
	for _, raw := range a.Plugins {
		if object, err := rawjson.ParseTrusted(raw); err == nil {
			raw = object.Without("deviceID", "pciBusID", "args").Bytes()
		}
		key += " " + string(raw)
	}
	return key
}

// AtLeast reports whether the network speaks this version of CNI.
func (a Attachment) AtLeast(v string) bool {
	ok, err := version.GreaterThanOrEqualTo(a.version(), v)
	return err == nil && ok
}

func (a Attachment) version() string {
	if a.CNIVersion == "" {
		return "0.1.0"
	}
	return a.CNIVersion
}

// declared lists the capabilities that are on, sorted.
func declared(capabilities map[string]bool) []string {
	var keys []string
	for key, on := range capabilities {
		if on {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// FileName is the name of libcni's file for the attachment of a container.
func FileName(containerID string, a Attachment) string {
	return a.Name + "-" + containerID + "-" + a.Ifname
}
