// Package install puts multus-shim on a node: the binary, credentials that stay
// fresh, and a CNI configuration around the node's primary network. It runs in
// a pod that mounts the host's directories, replaces every file by rename, and
// leaves them in place when it stops: pods start without it. Only when its
// DaemonSet was deleted it takes them away again. It needs write access to the
// two directories and no privilege besides.
package install

import (
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/version"
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

	RenamePrimary bool // to NAME.old, for runtimes that would load both
	SkipWatch     bool // of the primary; credentials are always kept fresh
	Cleanup       bool // remove configuration and credentials on exit
	Once          bool // exit when everything is in place

	// DaemonSet that this runs for, NAMESPACE/NAME. If it was deleted by the time this
	// is told to end, configuration and credentials are removed. "" leaves them in place.
	DaemonSet string
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
	f.StringVar(&o.HostKubeconfig, "multus-kubeconfig-file-host", "/etc/cni/net.d/multus.d/multus.kubeconfig", "`path` on the host at which the plugin reads its kubeconfig")
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
	f.BoolVar(&o.Once, "once", false, "exit when everything is in place")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("install: unexpected argument %q", f.Arg(0))
	}
	if o.CNIVersion != "" {
		if _, _, _, err := version.ParseVersion(o.CNIVersion); err != nil {
			return nil, fmt.Errorf("-cni-version %q: %w", o.CNIVersion, err)
		}
	}
	if namespace, name, ok := strings.Cut(o.DaemonSet, "/"); o.DaemonSet != "" && (!ok || namespace == "" || name == "" || strings.Contains(name, "/")) {
		return nil, fmt.Errorf("-uninstall-with %q: want NAMESPACE/NAME of a DaemonSet", o.DaemonSet)
	}
	if err := o.checkKubeconfig(); err != nil {
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

// checkKubeconfig accepts an absolute path with a directory of its own below the
// CNI configuration directory. Its last two elements name what is written, and
// removed, below ConfDir.
func (o *Options) checkKubeconfig() error {
	path := o.HostKubeconfig
	dir := filepath.Dir(path)
	own := filepath.IsAbs(path) && filepath.Clean(path) == path && path != "/" && dir != "/" && filepath.Dir(dir) != "/" &&
		filepath.Base(dir) != filepath.Base(o.ConfDir) && filepath.Base(path) != tokenName
	if !own {
		return fmt.Errorf("-multus-kubeconfig-file-host %q: want the absolute path of a file in a directory of its own below the node's "+
			"CNI configuration directory, such as /etc/cni/net.d/multus.d/multus.kubeconfig", path)
	}
	return nil
}
