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

// configurations are where distributions have CNI configurations, and installers of plugins
// what these read: credentials of a plugin's own.
var configurations = []string{
	"/etc/cni", "/etc/kubernetes/cni", "/var/lib/rancher/k3s/agent/etc/cni", "/var/lib/rancher/rke2/agent/etc/cni",
	"/var/snap/microk8s/current/args/cni-network",
}

// certificates are where calico's are besides. Whoever reads a key with it shows it nobody.
var certificates = append([]string{"/etc/calico/certs", "/etc/kubernetes/ssl/calico"}, configurations...)

var (
	sockets = []string{"/run", "/var/run"}
	logs    = []string{"/tmp", "/var/log"}
)

// runtimes are where container runtimes have the file systems and sockets of containers. What
// is there leads wherever a tenant's symbolic link does.
var runtimes = []string{"/run/containerd", "/run/k3s", "/run/containers", "/run/crio", "/run/docker", "/run/user"}

// ipamPaths are the keys by which IPAM plugins are told a file of the node, in lower case
// as they match them in any, and where a network may have that file. Whoever writes the
// network may be a tenant, and the plugin is root: beneath these directories what it
// writes is run by nobody, and what it reads is a plugin's to read. The paths are those of
// the documentation of plugins and distributions, and of networks in use.
var ipamPaths = map[string][]string{
	"datadir": {"/run", "/var/run", "/var/lib/cni"}, // host-local: a file for each address, named after it
	"resolvconf": { // host-local
		"/etc/resolv.conf", "/run/systemd/resolve", "/var/run/systemd/resolve", "/run/NetworkManager", "/var/run/NetworkManager",
		"/run/resolvconf", "/run/netconfig", "/run/connman",
	},
	"daemonsocketpath":          sockets,                                      // dhcp
	"daemonsocket":              append([]string{"/var/lib/cni"}, sockets...), // nv-ipam
	"server_socket":             sockets,                                      // kube-ovn
	"ipam_unix_socket_path":     sockets,                                      // spiderpool
	"log_file":                  logs,                                         // whereabouts
	"log_file_path":             logs,                                         // calico, spiderpool
	"log_output_file_path":      logs,                                         // spiderpool
	"logfile":                   logs,                                         // nv-ipam
	"kubeconfig":                configurations,                               // calico, whereabouts
	"configuration_path":        configurations,                               // whereabouts
	"confdir":                   configurations,                               // nv-ipam
	"nodename_file":             {"/var/lib/calico"},
	"etcd_key_file":             certificates,
	"etcd_cert_file":            certificates,
	"etcd_ca_cert_file":         certificates,
	"k8s_client_certificate":    certificates,
	"k8s_client_key":            certificates,
	"k8s_certificate_authority": certificates,
}

// apiRoot is the key of the server to which calico and whereabouts send the token of a
// kubeconfig, in place of the server that the kubeconfig names.
const apiRoot = "k8s_api_root"

// NamesFiles is an error that names each key with a file of the node where a network may
// not have one: outside of what is usual for the key, and of the directories that the
// node's administrator allows for any. own is never allowed, the plugin's state. An IPAM
// plugin is handed all of the configuration; without one nobody reads such keys.
func (r Request) NamesFiles(allowed []string, own string) error {
	if r.Conf.IPAM.Type == "" {
		return nil
	}
	f := files{Decoder: json.NewDecoder(bytes.NewReader(r.Stdin)), allowed: allowed, own: own, network: r.Conf.Name}
	f.walk("", "")
	if f.root != "" && (f.kubeconfig || inIPAM(f.root)) {
		f.errs = append(f.errs, fmt.Errorf("invalid %s: want none beside a kubeconfig, whose token would be sent there", f.root))
	}
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
	kubeconfig   bool   // one is named
	root         string // where apiRoot is; "" for nowhere
	errs         []error
}

// mostPaths bounds how many keys the error names.
const mostPaths = 10

// walk looks at a value, which is of the key if it is text, or text in a list.
func (f *files) walk(where, key string) {
	t, _ := f.Token() // an error ends all loops, and Parse has said it
	switch v := t.(type) {
	case json.Delim:
		for i := 0; f.More(); i++ {
			if v == '[' {
				f.walk(fmt.Sprintf("%.200s[%d]", where, i), key)
				continue
			}
			name, _ := f.Token()
			k, _ := name.(string)
			lower := fold(k)
			if where == "" && slices.Contains([]string{"prevresult", "runtimeconfig", "logfile"}, lower) {
				_ = f.Decode(&json.RawMessage{}) // the runtime's, and this plugin's own
				continue
			}
			f.walk(strings.TrimPrefix(fmt.Sprintf("%.200s.%s", where, shorten(k)), "."), lower)
		}
		_, _ = f.Token()
	case string:
		f.look(where, key, v)
	}
}

// fold is a key in the spelling of ipamPaths or apiRoot, if it is one of these to Go's decoder.
func fold(key string) string {
	if strings.EqualFold(apiRoot, key) {
		return apiRoot
	}
	for k := range ipamPaths {
		if strings.EqualFold(k, key) {
			return k
		}
	}
	return strings.ToLower(key)
}

func (f *files) look(where, key, text string) {
	usual, isFile := ipamPaths[key]
	switch {
	case text == "" || len(f.errs) == mostPaths:
		return
	case key == apiRoot:
		if f.root == "" || inIPAM(where) {
			f.root = where
		}
		return
	}
	f.kubeconfig = f.kubeconfig || key == "kubeconfig"
	if !isFile && !isPath(text) || f.mayHave(bare(text), usual) {
		return
	}
	want := "no path of the node"
	if len(usual) > 0 {
		want = "a path in " + strings.Join(usual, ", ")
	}
	f.errs = append(f.errs, fmt.Errorf("invalid %s %.100q: want %s, or one that ipamPaths of the node's /etc/cni/sriov.json allow", where, text, want))
}

// inIPAM reports whether a key is the IPAM plugin's alone. Whereabouts has a kubeconfig even
// if the network names none.
func inIPAM(where string) bool { return len(where) > 5 && strings.EqualFold(where[:5], "ipam.") }

// isPath reports whether a text under any key is an absolute path, or one that leads out of
// the directory that it is relative to. The length of a prefix, "/24", is none.
func isPath(text string) bool {
	text = bare(text)
	return strings.HasPrefix(text, "/") && strings.Trim(text[1:], "0123456789") != "" ||
		slices.Contains(strings.Split(text, "/"), "..")
}

// bare is a path without the scheme of a URL that has no host, as in "unix:///run/a.sock".
func bare(text string) string {
	if _, rest, _ := strings.Cut(text, ":"); strings.HasPrefix(rest, "///") || strings.HasPrefix(rest, "/") && !strings.HasPrefix(rest, "//") {
		return path.Clean(rest)
	}
	return text
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
	in := func(dir string) bool { return beneath(name, dir) }
	if slices.ContainsFunc(f.allowed, in) {
		return true
	}
	if !slices.ContainsFunc(usual, in) {
		return false
	}
	if rest, found := strings.CutPrefix(name, "/var/run/"); found { // the same, by a link of the node's
		name = "/run/" + rest
	}
	return !slices.ContainsFunc(runtimes, in)
}

// beneath reports whether a clean path is a directory, or in it.
func beneath(name, dir string) bool {
	dir = path.Clean(dir)
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}
