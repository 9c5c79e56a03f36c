// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// cleanup removes what makes the runtime use multus: configuration and credentials that were
// written here, and nothing beside them. What another installer put in their place, such as
// that of upstream, is the node's network by now and stays. The primary network comes first
// if it was renamed, so that the runtime always has one. The binaries stay: runtimes detach
// running pods with the configuration of their start.
func cleanup(o *Options) error {
	var errs []error
	if o.RenamePrimary || renamed(o) {
		errs = append(errs, renameBack(o))
	}
	for _, name := range []string{listName, singleName} {
		if path := filepath.Join(o.ConfDir, name); isOurs(o, path) {
			errs = append(errs, removeFile(path))
		}
	}
	return errors.Join(append(errs, removeCredentials(o))...)
}

// isOurs reports whether a configuration was written by an installer of this kind: it says
// so, or it is the finished one that this was given.
func isOurs(o *Options, path string) bool {
	data, err := readOwn(path)
	if err != nil {
		return false
	}
	var c struct {
		Type    string
		Plugins []struct{ Type string }
	}
	if json.Unmarshal(data, &c) == nil && (c.Type == ourType || len(c.Plugins) > 0 && c.Plugins[0].Type == ourType) || primaryInForce(data) != "" {
		return true
	}
	if o.ConfFile == "auto" {
		return false
	}
	given, err := os.ReadFile(o.ConfFile)
	return err == nil && bytes.Equal(data, given)
}

// isOurKubeconfig reports whether a kubeconfig leads to the token beside it, as credentials
// writes it. Others have a token of their own in it.
func isOurKubeconfig(path string) bool {
	data, err := readOwn(path)
	var c struct {
		Users []struct{ User struct{ TokenFile string } }
	}
	return err == nil && json.Unmarshal(data, &c) == nil && len(c.Users) == 1 && c.Users[0].User.TokenFile == tokenName
}

// removeCredentials removes the two files that credentials wrote, and their directory if it is
// empty then.
func removeCredentials(o *Options) error {
	dir := o.credentialsDir()
	names := []string{tokenName}
	if name := filepath.Base(o.HostKubeconfig); isOurKubeconfig(filepath.Join(dir, name)) {
		names = []string{name, tokenName}
	}
	for _, name := range names {
		if err := removeFile(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	err := os.Remove(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil
	}
	return err
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// renameBack gives the primary network's file its former name, unless another network's file
// has that by now. There may be renamed files of several networks that were the primary at some
// time; it takes the one from which the configuration in force was made.
func renameBack(o *Options) error {
	if _, _, err := findPrimary(o.PrimaryDir, o.Primary, ""); !errors.Is(err, errNoPrimary) {
		return err
	}
	entries, err := os.ReadDir(o.PrimaryDir)
	if err != nil {
		return err
	}
	patterns := o.Primary
	if len(patterns) == 0 {
		patterns = []string{"*"}
	}
	last := primaryInForce(inForce(o.ConfDir))
	for _, match := range append([]func(string) bool{func(name string) bool { return name == last }}, matchers(patterns)...) {
		i := slices.IndexFunc(entries, func(e fs.DirEntry) bool {
			name, renamed := strings.CutSuffix(e.Name(), oldSuffix)
			return renamed && isConf(name) && match(name)
		})
		if i >= 0 {
			path := filepath.Join(o.PrimaryDir, entries[i].Name())
			return os.Rename(path, strings.TrimSuffix(path, oldSuffix))
		}
	}
	return nil
}

// matchers are patterns, which were validated with the options, as functions.
func matchers(patterns []string) []func(string) bool {
	var all []func(string) bool
	for _, pattern := range patterns {
		all = append(all, func(name string) bool {
			matches, _ := filepath.Match(pattern, name)
			return matches
		})
	}
	return all
}
