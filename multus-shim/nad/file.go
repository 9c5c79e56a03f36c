// SPDX-License-Identifier: Apache-2.0

package nad

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sriovkit/sriovkit/multus-shim/rawjson"
)

// ErrNotFound: no file of the directory carries the network.
var ErrNotFound = errors.New("no CNI configuration")

// FromDir returns the network of the given name from a directory of CNI files:
// a .conflist first, then a .conf or .json. Files that cannot be read or parsed are passed over;
// if no network is found the error names them.
func FromDir(dir, name string) (Config, error) {
	var broken []error
	for _, extensions := range [][]string{{".conflist"}, {".conf", ".json"}} {
		paths, err := files(dir, extensions...)
		if err != nil {
			return Config{}, err
		}
		for _, path := range paths {
			c, err := fromFile(path)
			if err != nil {
				broken = append(broken, err)
				continue
			}
			if c.Name == name {
				return c, nil
			}
		}
	}
	return Config{}, errors.Join(fmt.Errorf("network %q in %s: %w", name, dir, ErrNotFound), errors.Join(broken...))
}

// FromPath reads a CNI file, or the first network of a directory that is not
// multus itself.
func FromPath(path string) (Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Config{}, err
	}
	if !info.IsDir() {
		return fromFile(path)
	}
	paths, err := files(path, ".conf", ".conflist")
	if err != nil {
		return Config{}, err
	}
	var broken []error
	for _, p := range paths {
		c, err := fromFile(p)
		if err == nil {
			return c, nil
		}
		broken = append(broken, err)
	}
	return Config{}, errors.Join(fmt.Errorf("%s: %w", path, ErrNotFound), errors.Join(broken...))
}

// fromFile reads one file. Plugins in the directory named like the network
// follow the inlined ones (libcni's drop-in directories).
func fromFile(path string) (Config, error) {
	data, err := readFile(path)
	if err != nil {
		return Config{}, err
	}
	object, err := rawjson.Parse(data)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	c, inlineOnly, err := parse(object, "", false)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	if !inlineOnly {
		dropIns, err := dropIns(filepath.Join(filepath.Dir(path), c.Name))
		if err != nil {
			return Config{}, err
		}
		c.Plugins = append(c.Plugins, dropIns...)
	}
	if len(c.Plugins) == 0 {
		return Config{}, fmt.Errorf("%s: no plugin, neither in the file nor in the directory %s", path, c.Name)
	}
	return c, nil
}

// maxFile bounds a configuration, bytes; those of Kubernetes are half as large at most.
const maxFile = 2 << 20

// readFile reads a regular file of bounded size, so that a pipe or a huge file in the directory
// keeps neither a pod nor the installer waiting.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: no regular file", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s: %d bytes are more than the %d of a configuration", path, info.Size(), maxFile)
	}
	return os.ReadFile(path)
}

// Chain returns the network made of the plugins in a directory, and whether
// there are any. Its first plugin is given an empty result to continue from.
func Chain(dir, name, cniVersion string) (Config, bool, error) {
	plugins, err := dropIns(filepath.Join(dir, name))
	if err != nil || len(plugins) == 0 {
		return Config{}, false, err
	}
	return Config{Name: name, CNIVersion: cniVersion, Plugins: plugins, SeedResult: true}, true, nil
}

func dropIns(dir string) ([]Plugin, error) {
	paths, err := files(dir, ".conf")
	if err != nil {
		return nil, err
	}
	var plugins []Plugin
	for _, path := range paths {
		data, err := readFile(path)
		if err != nil {
			return nil, err
		}
		c, err := Parse(data, "drop-in")
		if err == nil && len(c.Plugins) != 1 {
			err = errors.New(`want one plugin, with "type"`)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		plugins = append(plugins, c.Plugins...)
	}
	return plugins, nil
}

// files lists regular files by extension in lexical order; a directory that
// does not exist has none.
func files(dir string, extensions ...string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains(extensions, filepath.Ext(e.Name())) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, nil
}
