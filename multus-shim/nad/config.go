// SPDX-License-Identifier: Apache-2.0

// Package nad reads CNI network configurations: the spec.config of a
// NetworkAttachmentDefinition, and the files beside it that an empty one names
// (multi-net-spec section 3.4, CNI specification section 1). One form stands
// for all: an ordered list of plugins whose JSON keeps its bytes.
package nad

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
	"github.com/sriovkit/sriovkit/multus-shim/rawjson"
)

var errNoPlugin = errors.New(`neither "type" (one plugin) nor "plugins" (a list) is set`)

// Config is one network: what a CNI configuration list says.
type Config struct {
	Name         string // CNI network name, part of file names in plugins' state
	CNIVersion   string // "" is 0.1.0
	Plugins      []Plugin
	DisableCheck bool
	DisableGC    bool

	// SeedResult makes the first plugin see an empty prevResult: it was
	// written to be chained behind something.
	SeedResult bool
}

// Plugin is one element of the chain.
type Plugin struct {
	Type         string          // file name of the binary
	Capabilities map[string]bool // runtimeConfig keys it takes
	JSON         rawjson.Object
}

// Declares reports whether any plugin of the network takes the runtimeConfig key.
func (c Config) Declares(capability string) bool {
	return slices.ContainsFunc(c.Plugins, func(p Plugin) bool { return p.Capabilities[capability] })
}

// runtimeOwned members are given by the runtime with each command. A network that
// brought its own could feed its plugin another container's result, values the pod
// may not ask for, or a list of live attachments of its choice.
var runtimeOwned = []string{"prevResult", "runtimeConfig", "cni.dev/valid-attachments", "cni.dev/attachments"}

// Keys that are read or set here. They are handed on in this spelling.
var (
	listKeys = []string{
		"name", "cniVersion", "cniVersions", "type", "plugins", "capabilities", "disableCheck", "disableGC", "loadOnlyInlinedPlugins",
	}
	pluginKeys = []string{"name", "cniVersion", "type", "capabilities", "args", "deviceID", "pciBusID"}
)

// Parse reads a configuration or a configuration list. A missing name becomes
// the given one. Members that belong to the runtime are left out.
func Parse(data []byte, name string) (Config, error) {
	object, err := rawjson.Parse(data)
	if err != nil {
		return Config{}, fmt.Errorf("CNI configuration: %w", err)
	}
	return complete(object, name, false)
}

// ParseRecorded reads a configuration that was in force when a container was
// attached. It may be one that Parse refuses today.
func ParseRecorded(data []byte, name string) (Config, error) {
	object, err := rawjson.ParseTrusted(data)
	if err != nil {
		return Config{}, fmt.Errorf("CNI configuration: %w", err)
	}
	return complete(object, name, true)
}

func complete(object rawjson.Object, name string, recorded bool) (Config, error) {
	c, _, err := parse(object, name, recorded)
	if err == nil && len(c.Plugins) == 0 {
		return Config{}, errNoPlugin
	}
	return c, err
}

// parse also says whether plugins from the directory named like the network
// belong to it, which holds for files only.
func parse(object rawjson.Object, name string, recorded bool) (_ Config, inlineOnly bool, err error) {
	canonical, err := object.Canonical(listKeys...)
	switch {
	case err == nil:
		object = canonical
	case !recorded: // what its plugin read then it has to read again
		return Config{}, false, err
	}
	var c Config
	if err := object.Decode("name", &c.Name); err != nil {
		return Config{}, false, err
	}
	if c.Name == "" {
		c.Name = name
	}
	if err := utils.ValidateNetworkName(c.Name); err != nil {
		return Config{}, false, fmt.Errorf("name %q: want letters, digits, '_', '.' and '-', a letter or digit first", brief.Text(c.Name))
	}
	if c.CNIVersion, err = cniVersion(object); err != nil {
		return Config{}, false, err
	}
	if isSingle(object) {
		plugin, err := parsePlugin(object, recorded)
		if err != nil {
			return Config{}, false, err
		}
		c.Plugins = []Plugin{plugin}
		return c, true, nil
	}
	inlineOnly, err = c.parseList(object, recorded)
	if err != nil {
		return Config{}, false, err
	}
	return c, inlineOnly, nil
}

// isSingle tells a plugin's configuration from a list. Generators write an empty type
// beside a list.
func isSingle(object rawjson.Object) bool {
	value, typed := object.Get("type")
	_, list := object.Get("plugins")
	empty := string(value) == `""` || string(value) == "null"
	return typed && (!list || !empty)
}

func (c *Config) parseList(object rawjson.Object, recorded bool) (inlineOnly bool, err error) {
	for key, target := range map[string]*bool{
		"disableCheck": &c.DisableCheck, "disableGC": &c.DisableGC, "loadOnlyInlinedPlugins": &inlineOnly,
	} {
		if err := decodeBool(object, key, target); err != nil {
			return false, err
		}
	}
	value, ok := object.Get("plugins")
	if !ok {
		if inlineOnly {
			return false, errNoPlugin
		}
		return false, nil
	}
	var plugins []json.RawMessage
	if err := json.Unmarshal(value, &plugins); err != nil {
		return false, fmt.Errorf("plugins: %w", err)
	}
	if len(plugins) == 0 {
		return false, errors.New("plugins: the list is empty")
	}
	for i, raw := range plugins {
		object, err := rawjson.ParseTrusted(raw) // its depth was checked with the list's
		if err != nil {
			return false, fmt.Errorf("plugins, element %d: %w", i+1, err)
		}
		plugin, err := parsePlugin(object, recorded)
		if err != nil {
			return false, fmt.Errorf("plugins, element %d: %w", i+1, err)
		}
		c.Plugins = append(c.Plugins, plugin)
	}
	return inlineOnly, nil
}

func parsePlugin(object rawjson.Object, recorded bool) (Plugin, error) {
	object = object.Without(runtimeOwned...)
	canonical, err := object.Canonical(pluginKeys...)
	switch {
	case err == nil:
		object = canonical
	case !recorded:
		return Plugin{}, err
	}
	p := Plugin{JSON: object}
	if err := object.Decode("type", &p.Type); err != nil {
		return Plugin{}, err
	}
	switch {
	case p.Type == "":
		return Plugin{}, errors.New(`"type" is missing: it names the plugin's binary`)
	case strings.ContainsAny(p.Type, "/\x00") || p.Type == "." || p.Type == "..":
		return Plugin{}, fmt.Errorf("type %q: want a file name without a directory", brief.Text(p.Type))
	case p.Type == "multus" || p.Type == "multus-shim":
		return Plugin{}, fmt.Errorf("type %q: a network may not lead back to multus", p.Type)
	}
	if err := object.Decode("capabilities", &p.Capabilities); err != nil {
		return Plugin{}, err
	}
	return p, nil
}

// cniVersion is the newest version that is known here of cniVersion and, in a list,
// cniVersions.
func cniVersion(object rawjson.Object) (string, error) {
	var single string
	var list []string
	if err := errors.Join(object.Decode("cniVersion", &single), object.Decode("cniVersions", &list)); err != nil {
		return "", err
	}
	if isSingle(object) { // cniVersions is a member of lists; there its plugin would get a version that nobody tried
		list = nil
	}
	best := single
	for _, v := range append(slices.Clone(list), single) {
		if v == "" {
			continue
		}
		if _, _, _, err := version.ParseVersion(v); err != nil {
			return "", fmt.Errorf("cniVersion %q: want a version such as 1.0.0", brief.Text(v))
		}
		tooNew, _ := version.GreaterThan(v, version.Current())
		if len(list) > 0 && tooNew {
			continue
		}
		if newer, _ := version.GreaterThan(v, best); best == "" || newer {
			best = v
		}
	}
	return best, nil
}

// decodeBool reads a boolean that the CNI specification also allows as a string.
func decodeBool(object rawjson.Object, key string, target *bool) error {
	value, ok := object.Get(key)
	if !ok {
		return nil
	}
	switch strings.ToLower(string(value)) {
	case "true", `"true"`:
		*target = true
	case "false", `"false"`:
		*target = false
	default:
		return fmt.Errorf("%s %s: want true or false", key, brief.Text(string(value)))
	}
	return nil
}
