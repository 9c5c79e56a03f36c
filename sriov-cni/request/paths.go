// SPDX-License-Identifier: Apache-2.0

package request

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// ipamPaths are the keys by which IPAM plugins are told a file of the node, in lower case
// as they match them in any, and where a network may have that file. Whoever writes the
// network may be a tenant, and the plugin is root: beneath these directories what it
// writes is run by nobody, and what it reads is a plugin's to read. The paths are those of
// the plugins' own documentation and of networks in use.
var ipamPaths = map[string][]string{
	"datadir":            {"/run", "/var/run", "/var/lib/cni"}, // host-local: a file for each address, named after it
	"resolvconf":         {"/etc/resolv.conf", "/run/systemd/resolve", "/var/run/systemd/resolve"},
	"daemonsocketpath":   {"/run", "/var/run"}, // dhcp
	"daemonsocket":       {"/run", "/var/run"},
	"log_file":           {"/tmp", "/var/log"}, // whereabouts
	"log_file_path":      {"/tmp", "/var/log"}, // calico
	"logfile":            {"/tmp", "/var/log"},
	"kubeconfig":         {"/etc/cni", "/etc/kubernetes/cni"}, // calico, whereabouts
	"etcd_key_file":      {"/etc/cni", "/etc/kubernetes/cni"},
	"etcd_cert_file":     {"/etc/cni", "/etc/kubernetes/cni"},
	"etcd_ca_cert_file":  {"/etc/cni", "/etc/kubernetes/cni"},
	"configuration_path": {"/etc/cni", "/etc/kubernetes/cni"},
	"confdir":            {"/etc/cni", "/etc/kubernetes/cni"},
}

// NamesFiles is an error that names each key with a file of the node where a network may
// not have one: outside of what is usual for the key, and of the directories that the
// node's administrator allows for any. own is never allowed, the plugin's state. An IPAM
// plugin is handed all of the configuration; without one nobody reads such keys.
func (r Request) NamesFiles(allowed []string, own string) error {
	if r.Conf.IPAM.Type == "" {
		return nil
	}
	f := files{Decoder: json.NewDecoder(bytes.NewReader(r.Stdin)), allowed: allowed, own: own, network: r.Conf.Name}
	f.walk("", "", false)
	if err := errors.Join(f.errs...); err != nil {
		return invalid(err)
	}
	return nil
}

// files looks for paths in a configuration. It goes by its text, for of an object that is
// there twice Go's decoder takes the keys of both.
type files struct {
	*json.Decoder
	allowed      []string
	own, network string
	errs         []error
}

// mostPaths bounds how many keys the error names.
const mostPaths = 10

// walk looks at a value, which is of the key if it is text, or text in a list. strict is
// true where no text may be a path, whatever its key.
func (f *files) walk(where, key string, strict bool) {
	t, _ := f.Token() // an error ends all loops, and Parse has said it
	switch v := t.(type) {
	case json.Delim:
		for i := 0; f.More(); i++ {
			if v == '[' {
				f.walk(fmt.Sprintf("%.200s[%d]", where, i), key, strict)
				continue
			}
			name, _ := f.Token()
			k, _ := name.(string)
			lower := fold(k)
			if where == "" && slices.Contains([]string{"prevresult", "runtimeconfig", "logfile"}, lower) {
				_ = f.Decode(&json.RawMessage{}) // the runtime's, and this plugin's own
				continue
			}
			f.walk(strings.TrimPrefix(fmt.Sprintf("%.200s.%s", where, shorten(k)), "."), lower, strict || where == "" && lower == "ipam")
		}
		_, _ = f.Token()
	case string:
		f.look(where, key, v, strict)
	}
}

// fold is a key in the spelling of ipamPaths, if it is one of these to Go's decoder.
func fold(key string) string {
	for k := range ipamPaths {
		if strings.EqualFold(k, key) {
			return k
		}
	}
	return strings.ToLower(key)
}

func (f *files) look(where, key, text string, strict bool) {
	usual, isFile := ipamPaths[key]
	switch {
	case text == "" || len(f.errs) == mostPaths,
		!isFile && (!strict || !isPath(text)),
		f.mayHave(strings.TrimPrefix(text, "unix://"), usual):
		return
	}
	want := "no path of the node"
	if len(usual) > 0 {
		want = "a path in " + strings.Join(usual, ", ")
	}
	f.errs = append(f.errs, fmt.Errorf("invalid %s %.100q: want %s, or one that ipamPaths of the node's /etc/cni/sriov.json allow", where, text, want))
}

// isPath reports whether a text under any key is an absolute path. The length of a prefix,
// "/24", is none.
func isPath(text string) bool {
	text = strings.TrimPrefix(text, "unix://")
	return strings.HasPrefix(text, "/") && strings.Trim(text[1:], "0123456789") != ""
}

func (f *files) mayHave(name string, usual []string) bool {
	if !path.IsAbs(name) {
		return false
	}
	name = path.Clean(name)
	for _, at := range []string{name, path.Join(name, f.network)} { // host-local has a directory for each network
		if f.own != "" && beneath(at, f.own) {
			return false
		}
	}
	return slices.ContainsFunc(slices.Concat(usual, f.allowed), func(dir string) bool { return beneath(name, dir) })
}

// beneath reports whether a clean path is a directory, or in it.
func beneath(name, dir string) bool {
	dir = path.Clean(dir)
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}
