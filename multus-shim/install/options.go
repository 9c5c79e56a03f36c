// SPDX-License-Identifier: Apache-2.0

// Package install puts multus-shim on a node: the binary, credentials that stay
// fresh, and a CNI configuration around the node's primary network. It runs in
// a pod that mounts the host's directories, replaces every file by rename, and
// leaves them in place when it stops: pods start without it. Only when its
// DaemonSet was deleted it takes configuration and credentials away again. It needs
// write access to the two directories, whoever owns them, and no privilege besides.
package install

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/version"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/rawjson"
)

// Options are the flags, under the names that existing manifests use.
type Options struct {
	BinDir     string // host's plugin directory, as mounted here
	ConfDir    string // host's CNI configuration directory, as mounted here
	PrimaryDir string // where the primary network's file is looked for
	// Primary holds file name patterns in order of preference; empty takes the
	// first file that is a network other than multus.
	Primary  []string
	ConfFile string // "auto", or a finished configuration to copy

	BinFile  string // binary to install; "" is the running one
	SkipCopy bool

	HostConfDir    string // ConfDir as a path on the host
	HostKubeconfig string // where the plugin finds its kubeconfig, a path on the host
	ServiceAccount string // directory with token and ca.crt
	SkipTLSVerify  bool

	CNIVersion       string // "" takes the primary's
	NADFileDir       string // confDir
	ExtraBinDir      string // binDir
	Isolation        bool
	GlobalNamespaces string
	OverrideName     bool // take the primary's network name
	ReadinessFile    string
	LogFile          string
	LogLevel         string
	LogToStderr      bool
	Settings         rawjson.Object // further keys of the configuration

	RenamePrimary bool // to NAME.old, for runtimes that would load both
	SkipWatch     bool // of the primary; credentials are always kept fresh
	Cleanup       bool // remove configuration and credentials on exit
	Once          bool // exit when everything is in place
	Check         bool // tell whether this pod's installer is done

	// DaemonSet that this runs for, NAMESPACE/NAME. If it was deleted by the time this
	// is told to end, configuration and credentials are removed. "" leaves them in place.
	DaemonSet string
	// Pod that this runs in, NAMESPACE/NAME, whose status tells the container runtime; ""
	// leaves RenamePrimary and OverrideName to their flags.
	Pod string

	// refusals is how long the API server has to refuse to tell the runtime until that counts
	// as its answer, askAgain how often it is asked after that; 0 for the defaults.
	refusals, askAgain time.Duration
}

// Parse reads the arguments of the install command.
func Parse(args []string, stderr io.Writer) (*Options, error) {
	var o Options
	var primary string
	f := flag.NewFlagSet("multus-shim install", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.BinDir, "cni-bin-dir", "/host/opt/cni/bin", "the host's CNI plugin `directory`, as mounted here")
	f.StringVar(&o.ConfDir, "cni-conf-dir", "/host/etc/cni/net.d", "the host's CNI configuration `directory`, as mounted here")
	f.StringVar(&o.PrimaryDir, "multus-autoconfig-dir", "", "`directory` of the primary network's file (default: -cni-conf-dir)")
	f.StringVar(&primary, "multus-master-cni-file-name", "", "`file` of the primary network, or patterns such as 10-calico*,*cilium* in order of preference")
	f.StringVar(&o.ConfFile, "multus-conf-file", "auto", `"auto" generates the configuration, a `+"`file`"+` is copied`)
	f.StringVar(&o.BinFile, "multus-bin-file", "", "`binary` to install (default: this one)")
	f.BoolVar(&o.SkipCopy, "skip-multus-binary-copy", false, "leave the binary alone")
	f.StringVar(&o.HostConfDir, "cni-conf-dir-host", "", "-cni-conf-dir as a `path` on the host (default: that of -multus-kubeconfig-file-host, or /etc/cni/net.d)")
	f.StringVar(&o.HostKubeconfig, "multus-kubeconfig-file-host", "", "`path` on the host at which the plugin reads its kubeconfig (default: multus.d/multus.kubeconfig in -cni-conf-dir-host)")
	f.StringVar(&o.ServiceAccount, "service-account-dir", "/var/run/secrets/kubernetes.io/serviceaccount", "`directory` with token and ca.crt")
	f.BoolVar(&o.SkipTLSVerify, "skip-tls-verify", false, "do not verify the API server's certificate")
	f.StringVar(&o.CNIVersion, "cni-version", "", "CNI `version` of the configuration (default: the primary's)")
	f.StringVar(&o.CNIVersion, "force-cni-version", "", "same as -cni-version")
	f.StringVar(&o.NADFileDir, "multus-cni-conf-dir", "", "`directory` on the host with CNI files that NADs name")
	f.StringVar(&o.ExtraBinDir, "additional-bin-dir", "", "`directory` on the host that is searched for plugins first")
	f.BoolVar(&o.Isolation, "namespace-isolation", false, "pods may use NADs of their own and global namespaces only")
	f.StringVar(&o.GlobalNamespaces, "global-namespaces", "", "comma `list` of global namespaces")
	f.BoolVar(&o.OverrideName, "override-network-name", false, "use the primary's network name")
	f.StringVar(&o.ReadinessFile, "readiness-indicator-file", "", "`file` on the host that exists once the primary is ready")
	f.StringVar(&o.LogFile, "multus-log-file", "", "log `file` on the host")
	f.StringVar(&o.LogLevel, "multus-log-level", "", "log `level`: error, verbose or debug")
	f.BoolVar(&o.LogToStderr, "multus-log-to-stderr", true, "log to the runtime's journal, too")
	f.BoolVar(&o.RenamePrimary, "rename-conf-file", false, "rename the primary's file to NAME.old")
	f.BoolVar(&o.SkipWatch, "skip-config-watch", false, "do not follow changes of the primary's file")
	f.BoolVar(&o.Cleanup, "cleanup-config-on-exit", false, "remove configuration and credentials on exit")
	f.StringVar(&o.DaemonSet, "uninstall-with", "", "remove configuration and credentials if this DaemonSet, `NAMESPACE/NAME`, is deleted")
	f.StringVar(&o.Pod, "pod", "", "`NAMESPACE/NAME` of the pod that this runs in: on CRI-O, -rename-conf-file and -override-network-name are switched on")
	f.BoolVar(&o.Once, "once", false, "exit when everything is in place")
	f.BoolVar(&o.Check, "check", false, "tell whether the installer of this pod is done, for a readiness probe")
	o.settingFlags(f)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("install: unexpected argument %q", f.Arg(0))
	}
	if known := version.All.SupportedVersions(); o.CNIVersion != "" && !slices.Contains(known, o.CNIVersion) {
		return nil, fmt.Errorf("-cni-version %q: want one of %s", o.CNIVersion, strings.Join(known, ", "))
	}
	err := errors.Join(checkRef("-uninstall-with", o.DaemonSet, "a DaemonSet"), checkRef("-pod", o.Pod, "a pod"), o.checkKubeconfig(), o.checkMembers())
	if err != nil {
		return nil, err
	}
	if o.PrimaryDir == "" {
		o.PrimaryDir = o.ConfDir
	}
	for _, pattern := range strings.FieldsFunc(primary, func(r rune) bool { return r == ',' }) {
		if _, err := filepath.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("-multus-master-cni-file-name %q: %w", pattern, err)
		}
		o.Primary = append(o.Primary, pattern)
	}
	return &o, nil
}

// checkRef accepts the name of an object with its namespace, and none.
func checkRef(flag, value, kind string) error {
	namespace, name, ok := strings.Cut(value, "/")
	if value != "" && (!ok || namespace == "" || name == "" || strings.Contains(name, "/")) {
		return fmt.Errorf("%s %q: want NAMESPACE/NAME of %s", flag, value, kind)
	}
	return nil
}

// checkKubeconfig accepts an absolute path with a directory of its own below the
// CNI configuration directory. Its last two elements name what is written, and
// removed, below ConfDir.
func (o *Options) checkKubeconfig() error {
	if o.HostConfDir != "" && (!filepath.IsAbs(o.HostConfDir) || filepath.Clean(o.HostConfDir) != o.HostConfDir) {
		return fmt.Errorf("-cni-conf-dir-host %q: want an absolute path", o.HostConfDir)
	}
	if o.HostKubeconfig == "" {
		o.HostConfDir = cmp.Or(o.HostConfDir, "/etc/cni/net.d")
		o.HostKubeconfig = filepath.Join(o.HostConfDir, "multus.d", "multus.kubeconfig")
	}
	path := o.HostKubeconfig
	dir := filepath.Dir(path)
	o.HostConfDir = cmp.Or(o.HostConfDir, filepath.Dir(dir))
	own := filepath.IsAbs(path) && filepath.Clean(path) == path && path != "/" && dir != "/" && filepath.Dir(dir) != "/" &&
		filepath.Dir(dir) == o.HostConfDir && filepath.Base(dir) != filepath.Base(o.ConfDir) && filepath.Base(path) != tokenName
	if !own {
		return fmt.Errorf("-multus-kubeconfig-file-host %q: want the absolute path of a file in a directory of its own below the node's "+
			"CNI configuration directory (-cni-conf-dir-host), such as /etc/cni/net.d/multus.d/multus.kubeconfig", path)
	}
	return nil
}

// settings are flags that become a key of the configuration as they are.
var settings = []struct {
	flag, key, usage string
	literal          bool // a number or a boolean
}{
	{"kubelet-dir", "kubeletDir", "the kubelet's root `directory` on the host (default /var/lib/kubelet)", false},
	{"cni-dir", "cniDir", "`directory` on the host for the plugin's state (default /var/lib/cni/multus)", false},
	{"device-info-dir", "deviceInfoDir", "`directory` on the host with device information files", false},
	{"multus-namespace", "multusNamespace", "`namespace` of NADs that the configuration names", false},
	{"status-policy", "statusPolicy", "write network-status `always`, annotated or never", false},
	{"status-failure", "statusFailure", "a status that cannot be written: `warn` or strict", false},
	{"events", "events", "post events of `failures`, all or none", false},
	{"capability-check", "capabilityCheck", "a request that no plugin declares: `warn` or strict", false},
	{"device-ids", "deviceIDs", "devices that a pod may name: `allocated` or any", false},
	{"max-networks", "maxNetworks", "`number` of networks that one annotation may select", true},
	{"status-requires-api", "statusRequiresAPI", "CNI STATUS needs the API server: `true` or false", true},
	{"api-timeout", "apiTimeout", "`duration` of all look-ups of an ADD", false},
	{"delegate-timeout", "delegateTimeout", "`duration` of one network's plugins", false},
	{"readiness-timeout", "readinessTimeout", "`duration` for which an ADD waits for the readiness indicator file", false},
}

func (o *Options) settingFlags(f *flag.FlagSet) {
	for _, s := range settings {
		f.Func(s.flag, s.usage, func(value string) error {
			raw := rawjson.Marshal(value)
			if s.literal {
				raw = json.RawMessage(value)
			}
			if !json.Valid(raw) {
				return errors.New("want a number, true or false")
			}
			o.Settings = o.Settings.With(s.key, raw)
			return nil
		})
	}
	f.Func("system-namespaces", "comma `list` of namespaces whose pods get no defaultNetworks", func(value string) error {
		o.Settings = o.Settings.With("systemNamespaces", rawjson.Marshal(strings.Split(value, ",")))
		return nil
	})
}

// members are the keys of the configuration that flags set.
func (o *Options) members() rawjson.Object {
	var out rawjson.Object
	for _, m := range []struct{ key, value string }{
		{"kubeconfig", o.HostKubeconfig}, {"confDir", o.NADFileDir}, {"binDir", o.ExtraBinDir}, {"globalNamespaces", o.GlobalNamespaces},
		{"readinessindicatorfile", o.ReadinessFile}, {"logFile", o.LogFile}, {"logLevel", o.LogLevel},
	} {
		if m.value != "" {
			out = out.With(m.key, rawjson.Marshal(m.value))
		}
	}
	if o.Isolation {
		out = out.With("namespaceIsolation", rawjson.Marshal(true))
	}
	if !o.LogToStderr {
		out = out.With("logToStderr", rawjson.Marshal(false))
	}
	for _, m := range o.Settings {
		out = out.With(m.Key, m.Value)
	}
	return out
}

// checkMembers lets the plugin itself judge: with a wrong value no pod of a node would start.
func (o *Options) checkMembers() error {
	if o.ExtraBinDir != "" && !filepath.IsAbs(o.ExtraBinDir) { // which the plugin takes
		return fmt.Errorf("-additional-bin-dir %q: want an absolute path", o.ExtraBinDir)
	}
	probe := append(rawjson.Object{{Key: "clusterNetwork", Value: rawjson.Marshal("probe")}}, o.members()...)
	_, err := conf.Parse(probe.Bytes())
	return err
}
