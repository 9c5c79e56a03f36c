// SPDX-License-Identifier: Apache-2.0

// Package conf reads the configuration that the container runtime hands to
// multus-shim on stdin, and the CNI_ARGS beside it. Reading is pure: no file is
// opened and no default depends on the machine.
package conf

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/utils"

	"github.com/sriovkit/sriovkit/multus-shim/annotation"
	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
)

// AnnotationsCapability is the capability under which container runtimes pass
// the annotations of the pod in runtimeConfig (containerd since 1.5, CRI-O).
const AnnotationsCapability = "io.kubernetes.cri.pod-annotations"

// Conf is the network configuration of multus-shim. Paths are absolute.
type Conf struct {
	Name       string // CNI network name
	CNIVersion string // of the result that is printed
	Raw        json.RawMessage

	// Exactly one of Delegates and ClusterNetwork names the default network.
	// Delegates are CNI configurations, run in order, the first is the default.
	Delegates       []json.RawMessage
	ClusterNetwork  string   // NAD, CNI network name, directory or file
	DefaultNetworks []string // further networks of every pod outside SystemNamespaces
	AuxiliaryChain  string   // auxiliaryCNIChainName: directory of plugins beside ClusterNetwork

	ConfDir string // CNI files that NADs name without carrying a config
	CNIDir  string // records, one per container, and libcni results
	BinDir  string // searched for plugins before CNI_PATH

	Kubeconfig string // empty: the environment of a pod, or no API server at all

	Isolation        bool // NADs only from the pod's own and GlobalNamespaces
	GlobalNamespaces []string
	SystemNamespaces []string
	MultusNamespace  string // of NADs named by the administrator without a namespace

	ReadinessFile string // ADD waits for it, STATUS reports it

	RuntimeConfig map[string]json.RawMessage
	// Annotations of the pod; nil when the runtime did not pass them.
	Annotations map[string]string
	// ValidAttachments is the runtime's list for GC; nil when it passed none.
	ValidAttachments []Attachment

	Log     Log
	Policy  Policy
	Timeout Timeout

	KubeletDir    string // holds pod-resources/ and device-plugins/
	DeviceInfoDir string // holds dp/ and cni/ of the Device Information specification

	Unknown []string // keys nobody reads, for a warning
}

// Attachment is one element of cni.dev/valid-attachments.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// Log says where and how much to log.
type Log struct {
	File     string
	Level    slog.Level
	ToStderr bool
}

// Policy holds the choices an administrator may differ on.
type Policy struct {
	Status        StatusPolicy
	StatusStrict  bool   // a status that cannot be written fails the ADD
	Events        Events // which events are posted
	Lenient       bool   // a request without its capability is a warning
	AnyDevice     bool   // a pod may name devices that were not given to it
	MaxNetworks   int    // that one annotation may select
	STATUSAsksAPI bool   // STATUS needs an API server that answers
}

// Timeout bounds what multus-shim waits for.
type Timeout struct {
	API       time.Duration // all look-ups of one ADD together
	Delegate  time.Duration // one command of one network, all its plugins together
	Readiness time.Duration
}

// StatusPolicy says for which pods network-status is written.
type StatusPolicy string

// The status policies; StatusAlways is the default.
const (
	StatusAlways    StatusPolicy = "always"
	StatusAnnotated StatusPolicy = "annotated"
	StatusNever     StatusPolicy = "never"
)

// Events says which events are posted on the pod.
type Events string

// The choices for events; EventsFailures is the default: one POST when an ADD fails.
const (
	EventsNone     Events = "none"
	EventsFailures Events = "failures"
	EventsAll      Events = "all"
)

type wire struct {
	Name              string                     `json:"name"`
	CNIVersion        string                     `json:"cniVersion"`
	Delegates         []json.RawMessage          `json:"delegates"`
	ClusterNetwork    string                     `json:"clusterNetwork"`
	DefaultNetworks   []string                   `json:"defaultNetworks"`
	AuxiliaryChain    string                     `json:"auxiliaryCNIChainName"`
	ConfDir           string                     `json:"confDir"`
	CNIDir            string                     `json:"cniDir"`
	BinDir            string                     `json:"binDir"`
	Kubeconfig        string                     `json:"kubeconfig"`
	Isolation         bool                       `json:"namespaceIsolation"`
	GlobalNamespaces  *string                    `json:"globalNamespaces"`
	SystemNamespaces  []string                   `json:"systemNamespaces"`
	MultusNamespace   string                     `json:"multusNamespace"`
	ReadinessFile     string                     `json:"readinessindicatorfile"`
	RuntimeConfig     map[string]json.RawMessage `json:"runtimeConfig"`
	ValidAttachments  []Attachment               `json:"cni.dev/valid-attachments"`
	OldAttachments    []Attachment               `json:"cni.dev/attachments"`
	LogFile           string                     `json:"logFile"`
	LogLevel          string                     `json:"logLevel"`
	LogToStderr       *bool                      `json:"logToStderr"`
	StatusPolicy      string                     `json:"statusPolicy"`
	StatusFailure     string                     `json:"statusFailure"`
	Events            string                     `json:"events"`
	CapabilityCheck   string                     `json:"capabilityCheck"`
	DeviceIDs         string                     `json:"deviceIDs"`
	MaxNetworks       *int                       `json:"maxNetworks"`
	StatusRequiresAPI bool                       `json:"statusRequiresAPI"`
	APITimeout        string                     `json:"apiTimeout"`
	DelegateTimeout   string                     `json:"delegateTimeout"`
	ReadinessTimeout  string                     `json:"readinessTimeout"`
	KubeletDir        string                     `json:"kubeletDir"`
	DeviceInfoDir     string                     `json:"deviceInfoDir"`
}

// accepted keys have no effect here: they belong to CNI itself or to parts of
// an older installation (its daemon, its log rotation) that do not exist any more.
var accepted = []string{
	"type", "capabilities", "ipam", "dns", "args", "prevResult", "cniVersions", "disableCheck", "disableGC", "plugins",
	"logOptions", "retryDeleteOnError", "daemonSocketDir", "socketDir", "chrootDir", "metricsPort", "enablePprof",
	"connectionLimit", "perNodeCertificate", "cniConfigDir", "multusConfigFile", "multusAutoconfigDir",
	"multusMasterCNI", "forceCNIVersion", "overrideNetworkName",
}

// Parse reads and validates a configuration. Every error names key and value.
func Parse(data []byte) (*Conf, error) {
	var w wire
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("multus configuration: %w", err)
	}
	c := &Conf{
		Name: w.Name, CNIVersion: w.CNIVersion, Raw: slices.Clone(data),
		Delegates: w.Delegates, ClusterNetwork: w.ClusterNetwork, DefaultNetworks: w.DefaultNetworks,
		AuxiliaryChain: w.AuxiliaryChain,
		ConfDir:        or(w.ConfDir, "/etc/cni/multus/net.d"),
		CNIDir:         or(w.CNIDir, "/var/lib/cni/multus"),
		BinDir:         or(w.BinDir, "/opt/cni/bin"),
		Kubeconfig:     w.Kubeconfig,
		Isolation:      w.Isolation, GlobalNamespaces: []string{"default"},
		SystemNamespaces: w.SystemNamespaces,
		MultusNamespace:  or(w.MultusNamespace, "kube-system"),
		ReadinessFile:    w.ReadinessFile,
		RuntimeConfig:    w.RuntimeConfig,
		ValidAttachments: w.ValidAttachments,
		KubeletDir:       or(w.KubeletDir, "/var/lib/kubelet"),
		DeviceInfoDir:    or(w.DeviceInfoDir, "/var/run/k8s.cni.cncf.io/devinfo"),
		Log:              Log{File: w.LogFile, ToStderr: w.LogToStderr == nil || *w.LogToStderr},
	}
	if c.ValidAttachments == nil {
		c.ValidAttachments = w.OldAttachments
	}
	if w.SystemNamespaces == nil {
		c.SystemNamespaces = []string{"kube-system"}
	}
	if w.GlobalNamespaces != nil {
		c.GlobalNamespaces = fields(*w.GlobalNamespaces)
	}
	if value, ok := w.RuntimeConfig[AnnotationsCapability]; ok {
		c.Annotations = map[string]string{}
		if err := json.Unmarshal(value, &c.Annotations); err != nil {
			return nil, fmt.Errorf("runtimeConfig %s: %w", AnnotationsCapability, err)
		}
	}
	c.Unknown = unknown(data)
	if err := errors.Join(c.validate(), c.choose(&w)); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Conf) validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Delegates) == 0 && c.ClusterNetwork == "" {
		fail(`neither "delegates" nor "clusterNetwork" is set: one of them must name the default network`)
	}
	if c.AuxiliaryChain != "" && !filepath.IsAbs(c.ClusterNetwork) {
		fail("auxiliaryCNIChainName %q: needs clusterNetwork to be a file path, it is %q", c.AuxiliaryChain, c.ClusterNetwork)
	}
	if strings.ContainsRune(c.AuxiliaryChain, '/') {
		fail("auxiliaryCNIChainName %q: a name, not a path", c.AuxiliaryChain)
	}
	for key, path := range map[string]string{
		"confDir": c.ConfDir, "cniDir": c.CNIDir, "kubeconfig": c.Kubeconfig, "logFile": c.Log.File,
		"readinessindicatorfile": c.ReadinessFile, "kubeletDir": c.KubeletDir, "deviceInfoDir": c.DeviceInfoDir,
	} {
		if path != "" && !filepath.IsAbs(path) {
			fail("%s %q: not an absolute path", key, path)
		}
	}
	for i, a := range c.ValidAttachments {
		if a.ContainerID == "" || a.IfName == "" {
			fail("cni.dev/valid-attachments, element %d: containerID %q and ifname %q must both be set", i+1, a.ContainerID, a.IfName)
			continue
		}
		// They become names of files, and what is misread would be deleted.
		if utils.ValidateContainerID(a.ContainerID) != nil || utils.ValidateInterfaceName(a.IfName) != nil {
			fail("cni.dev/valid-attachments, element %d: containerID %q, ifname %q: want the names of a container and of an interface",
				i+1, brief.Text(a.ContainerID), brief.Text(a.IfName))
		}
	}
	return errors.Join(errs...)
}

// choose fills in what has a small set of right values.
func (c *Conf) choose(w *wire) error {
	var errs []error
	pick := func(key, value, def string, allowed ...string) string {
		value = or(value, def)
		if !slices.Contains(allowed, value) {
			errs = append(errs, fmt.Errorf("%s %q: want one of %s", key, value, strings.Join(allowed, ", ")))
		}
		return value
	}
	duration := func(key, value string, def time.Duration) time.Duration {
		if value == "" {
			return def
		}
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			errs = append(errs, fmt.Errorf(`%s %q: want a positive duration such as "10s"`, key, value))
		}
		return d
	}
	c.Policy = Policy{
		Status:        StatusPolicy(pick("statusPolicy", w.StatusPolicy, "always", "always", "annotated", "never")),
		StatusStrict:  pick("statusFailure", w.StatusFailure, "warn", "warn", "strict") == "strict",
		Events:        Events(pick("events", w.Events, "failures", "none", "failures", "all")),
		Lenient:       pick("capabilityCheck", w.CapabilityCheck, "warn", "strict", "warn") == "warn",
		AnyDevice:     pick("deviceIDs", w.DeviceIDs, "allocated", "allocated", "any") == "any",
		STATUSAsksAPI: w.StatusRequiresAPI,
		MaxNetworks:   annotation.MaxSelections,
	}
	if w.MaxNetworks != nil {
		c.Policy.MaxNetworks = *w.MaxNetworks
		if c.Policy.MaxNetworks < 1 {
			errs = append(errs, fmt.Errorf("maxNetworks %d: want at least 1", c.Policy.MaxNetworks))
		}
	}
	c.Timeout = Timeout{
		API:       duration("apiTimeout", w.APITimeout, 10*time.Second),
		Delegate:  duration("delegateTimeout", w.DelegateTimeout, time.Minute),
		Readiness: duration("readinessTimeout", w.ReadinessTimeout, 45*time.Second),
	}
	c.Log.Level = level(w.LogLevel)
	return errors.Join(errs...)
}

// level maps the level names of older configurations; an unknown one must not
// keep pods from starting and counts as the default.
func level(name string) slog.Level {
	switch strings.ToLower(name) {
	case "panic", "error":
		return slog.LevelError
	case "verbose", "info":
		return slog.LevelInfo
	case "debug":
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

func or(value, def string) string {
	if value == "" {
		return def
	}
	return value
}

// fields splits a comma list and drops white space and empty items.
func fields(list string) []string {
	out := []string{}
	for _, item := range strings.Split(list, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}
