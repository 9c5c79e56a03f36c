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
	sockets = []string{"/run"}
	logs    = []string{"/tmp", "/var/log"}
)

// runtimes are where container runtimes have the file systems and sockets of containers. What
// is there leads wherever a tenant's symbolic link does.
var runtimes = []string{"/run/containerd", "/run/k3s", "/run/containers", "/run/crio", "/run/docker", "/run/user"}

// usual are the keys by which IPAM plugins are told a file of the node, in lower case
// as they match them in any, and the directories in which a network may have that file.
// Whoever writes the network may be a tenant, and the plugin is root: beneath these
// directories what it writes is run by nobody, and what it reads is a plugin's to read. The
// paths are those of the documentation of plugins and distributions, and of networks in use;
// /run stands for /var/run, too.
var usual = map[string][]string{
	"datadir": {"/run", "/var/lib/cni"}, // host-local: a file for each address, named after it
	"resolvconf": { // host-local
		"/etc/resolv.conf", "/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", "/run/netconfig", "/run/connman",
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

// noIPAM are plugins that work on the node's interfaces, bridges, routes and rules: those of
// https://www.cni.dev/plugins/current/, and those that run others. As an IPAM plugin each
// would do for whoever wrote the network what it can, as host-device moves any interface.
var noIPAM = []string{
	"bandwidth", "bridge", "dummy", "firewall", "flannel", "host-device", "ib-sriov-cni", "ipvlan", "loopback", "macvlan", "multus", "multus-shim",
	"portmap", "ptp", "sbr", "sriov", "tap", "tuning", "vlan", "vrf",
}

// apiRoot is the key of the server to which calico and whereabouts send the token of a
// kubeconfig, in place of the server that the kubeconfig names.
const apiRoot = "k8s_api_root"

// Files are the files of the node that a network may name.
type Files struct {
	Extra []string                          // directories that the administrator allows under any key
	State string                            // this plugin's own directory, which is never allowed
	Real  func(path string) (string, error) // where a path leads by symbolic links; nil: to itself
}

// NamesFiles is an error that names each key with a file of the node where a network may
// not have one: outside of what is usual for the key, and of what may says. An IPAM plugin is
// handed all of the configuration; without one nobody reads such keys. It is an error, too,
// if the plugin is not for IPAM.
func (r Request) NamesFiles(may Files) error {
	switch ipam := r.Conf.IPAM.Type; {
	case ipam == "":
		return nil
	case slices.Contains(noIPAM, ipam):
		return invalid(fmt.Errorf("invalid ipam.type: %s is no IPAM plugin; name the one that hands out addresses, such as host-local", ipam))
	}
	f := files{Decoder: json.NewDecoder(bytes.NewReader(r.Stdin)), may: may, network: r.Conf.Name, led: map[string]string{}}
	f.walk("", -1, "")
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
	may        Files
	network    string
	led        map[string]string // where paths lead, as far as it was asked; "" for nowhere
	named      int               // files
	kubeconfig bool              // one is named
	root       string            // where apiRoot is; "" for nowhere
	errs       []error
}

const (
	mostPaths = 10 // keys that the error names
	mostFiles = 64 // that a configuration may name: each is looked for
)

// walk looks at a value, which is of the key if it is text, or text in a list, where it has
// an index; others have -1.
func (f *files) walk(where string, index int, key string) {
	t, _ := f.Token() // an error ends all loops, and Parse has said it
	if _, number := t.(float64); index >= 0 && !number {
		where = fmt.Sprintf("%.200s[%d]", where, index)
	}
	switch v := t.(type) {
	case json.Delim:
		for i := 0; f.More(); i++ {
			if v == '[' {
				f.walk(where, i, key)
				continue
			}
			name, _ := f.Token()
			k, _ := name.(string)
			lower := fold(k)
			if where == "" && slices.Contains([]string{"prevresult", "runtimeconfig", "logfile"}, lower) {
				_ = f.Decode(&json.RawMessage{}) // the runtime's, and this plugin's own
				continue
			}
			f.walk(strings.TrimPrefix(fmt.Sprintf("%.200s.%s", where, shorten(k)), "."), -1, lower)
		}
		_, _ = f.Token()
	case string:
		f.look(where, key, v)
	}
}

// fold is a key in the spelling of usual or apiRoot, if it is one of these to Go's decoder.
func fold(key string) string {
	if strings.EqualFold(apiRoot, key) {
		return apiRoot
	}
	for k := range usual {
		if strings.EqualFold(k, key) {
			return k
		}
	}
	return strings.ToLower(key)
}

func (f *files) look(where, key, text string) {
	dirs, isFile := usual[key]
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
	if !isFile && !isPath(text) {
		return
	}
	if f.named++; f.named <= mostFiles && f.allowed(bare(text), dirs) {
		return
	}
	want := "no path of the node"
	if len(dirs) > 0 {
		want = "a path in " + strings.Join(dirs, ", ")
	}
	if f.named > mostFiles {
		want = fmt.Sprintf("at most %d of them", mostFiles)
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

// allowed reports whether a network may name a file, by how it is written and by where that
// leads.
func (f *files) allowed(name string, dirs []string) bool {
	name = clean(name)
	leads := f.real(name)
	if !path.IsAbs(name) || leads == "" {
		return false
	}
	if state := f.may.State; state != "" {
		for _, at := range []string{name, path.Join(name, f.network)} { // host-local has a directory for each network
			if beneath(at, clean(state)) || beneath(f.real(at), f.real(clean(state))) {
				return false
			}
		}
	}
	in := func(dir string) bool {
		dir = clean(dir)
		to := f.real(dir)
		return (beneath(name, dir) || beneath(name, to)) && beneath(leads, to)
	}
	return slices.ContainsFunc(f.may.Extra, in) || slices.ContainsFunc(dirs, in) &&
		!slices.ContainsFunc(runtimes, func(dir string) bool { return beneath(leads, f.real(dir)) })
}

// real is where a clean path leads, "" for nowhere.
func (f *files) real(name string) string {
	to, asked := f.led[name]
	if !asked {
		to = name
		if f.may.Real != nil {
			var err error
			if to, err = f.may.Real(name); err != nil {
				to = ""
			}
		}
		to = clean(to)
		f.led[name] = to
	}
	return to
}

// clean is a path without detours; "" for "".
func clean(name string) string {
	if name == "" {
		return ""
	}
	name = path.Clean(name)
	if rest, found := strings.CutPrefix(name+"/", "/var/run/"); found { // a link of every distribution
		return path.Join("/run", rest)
	}
	return name
}

// beneath reports whether a clean path is a directory, or in it; "" is neither.
func beneath(name, dir string) bool {
	return dir != "" && (name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/"))
}
