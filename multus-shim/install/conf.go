// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/pkg/version"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/nad"
	"github.com/sriovkit/sriovkit/multus-shim/rawjson"
)

// The names of the configuration that is written here. Both sort first, which is how runtimes
// choose; the one that is not in use is removed.
const (
	singleName = "00-multus.conf"
	listName   = "00-multus.conflist"
)

// ourType is the plugin's type in a configuration that is written here.
const ourType = "multus-shim"

var (
	// errNoPrimary: the primary network's file has not come yet.
	errNoPrimary = errors.New("no primary network")
	// errDamaged: the file that was the primary network's does not parse now.
	errDamaged = errors.New("the primary network's file cannot be read")
)

// findPrimary returns the file of the primary network: the best match of the
// patterns, else the first in lexical order. Files that lead back to multus,
// that do not parse or hold no plugin are no networks, but one that was the primary
// network is awaited: errDamaged.
func findPrimary(dir string, patterns []string, before string) (string, nad.Config, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", nad.Config{}, err
	}
	if len(patterns) == 0 {
		patterns = []string{"*"}
	}
	var rejected []error
	for _, pattern := range patterns {
		for _, e := range entries {
			matches, _ := filepath.Match(pattern, e.Name()) // validated with the options
			if !matches || e.IsDir() || !isConf(e.Name()) {
				continue
			}
			path := filepath.Join(dir, e.Name())
			c, err := readPrimary(path)
			if err == nil {
				return path, c, nil
			}
			if e.Name() == before && !errors.Is(err, fs.ErrNotExist) {
				return path, nad.Config{}, fmt.Errorf("%w: %w", errDamaged, err)
			}
			rejected = append(rejected, err)
		}
	}
	return "", nad.Config{}, errors.Join(fmt.Errorf("%w in %s", errNoPrimary, dir), errors.Join(rejected...))
}

// readPrimary reads a file that may be that of the primary network. The loopback
// network, which some distributions put beside it, gives a pod no network.
func readPrimary(path string) (nad.Config, error) {
	c, err := nad.FromPath(path)
	if err == nil && !slices.ContainsFunc(c.Plugins, func(p nad.Plugin) bool { return p.Type != "loopback" }) {
		return nad.Config{}, fmt.Errorf("%s: the loopback plugin alone is no primary network", path)
	}
	return c, err
}

// primaryKey is the member of the written configuration with the name of the primary network's
// file.
const primaryKey = "multus-shim.sriovkit.io/primary"

// primaryInForce is the name of the primary network's file that a configuration was
// made of, "" if it does not say.
func primaryInForce(data []byte) string {
	var c struct {
		Primary string            `json:"multus-shim.sriovkit.io/primary"`
		Plugins []json.RawMessage `json:"plugins"`
	}
	if json.Unmarshal(data, &c) != nil {
		return ""
	}
	if c.Primary == "" && len(c.Plugins) > 0 {
		return primaryInForce(c.Plugins[0])
	}
	if c.Primary != filepath.Base(c.Primary) {
		return ""
	}
	return c.Primary
}

// isConf reports whether runtimes look at a file of this name.
func isConf(name string) bool {
	return slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(name))
}

// generate writes the configuration around a primary network, and says under
// which name it belongs: CNI 1.0.0 knows lists only.
func generate(o *Options, file string, primary nad.Config) (name string, data []byte) {
	cniVersion := o.CNIVersion
	if cniVersion == "" {
		cniVersion = primary.CNIVersion
	}
	network := "multus-cni-network"
	if o.OverrideName {
		network = primary.Name
	}
	plugin := rawjson.Object{
		{Key: "type", Value: rawjson.Marshal(ourType)},
		{Key: "capabilities", Value: rawjson.Marshal(capabilities(primary))},
	}
	plugin = append(plugin, o.members()...).With(primaryKey, rawjson.Marshal(file))
	plugin = plugin.With("delegates", rawjson.Marshal([]json.RawMessage{delegate(primary)}))
	head := rawjson.Object{{Key: "cniVersion", Value: rawjson.Marshal(cniVersion)}, {Key: "name", Value: rawjson.Marshal(network)}}
	if list, err := version.GreaterThanOrEqualTo(cniVersion, "1.0.0"); err == nil && list {
		return listName, append(head.With("plugins", rawjson.Marshal([]json.RawMessage{plugin.Bytes()})).Bytes(), '\n')
	}
	return singleName, append(append(head, plugin...).Bytes(), '\n')
}

// capabilities are those of the primary network, for which the runtime's values
// are meant, and the pod's annotations.
func capabilities(primary nad.Config) map[string]bool {
	out := map[string]bool{conf.AnnotationsCapability: true}
	for _, p := range primary.Plugins {
		for key, on := range p.Capabilities {
			if on {
				out[key] = true
			}
		}
	}
	return out
}

// delegate is the primary network with its drop-in plugins inlined.
func delegate(primary nad.Config) json.RawMessage {
	var plugins []json.RawMessage
	for _, p := range primary.Plugins {
		plugins = append(plugins, p.JSON.Bytes())
	}
	object := rawjson.Object{
		{Key: "cniVersion", Value: rawjson.Marshal(primary.CNIVersion)},
		{Key: "name", Value: rawjson.Marshal(primary.Name)},
	}
	for key, on := range map[string]bool{"disableCheck": primary.DisableCheck, "disableGC": primary.DisableGC} {
		if on {
			object = object.With(key, rawjson.Marshal(true))
		}
	}
	return object.With("plugins", rawjson.Marshal(plugins)).Bytes()
}
