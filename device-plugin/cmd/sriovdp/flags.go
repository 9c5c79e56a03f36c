// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/sriovkit/sriovkit/device-plugin/command"
	"github.com/sriovkit/sriovkit/device-plugin/plugin"
)

type flags struct {
	options                 plugin.Options
	metricsAddress          string
	healthAddress           string
	draDriver               string
	logFormat               string
	logLevel                int
	logDir                  string
	check, explain, version bool
}

// Log levels, numbered as the SR-IOV network device plugin's images do: more is
// more talkative.
const (
	logChanges = 1  // below it only warnings
	logDebug   = 11 // 10 is what existing manifests pass
)

type action int

const (
	actionServe action = iota
	actionCheck
	actionExplain
	actionVersion
)

func (f *flags) action() action {
	switch {
	case f.version:
		return actionVersion
	case f.check:
		return actionCheck
	case f.explain:
		return actionExplain
	}
	return actionServe
}

const usage = `Usage: sriovdp [flags]

Offers SR-IOV virtual functions and other network hardware to kubelet as
extended resources. Pools follow the hardware and the configuration file live.

  sriovdp -check -config-file f     is the file good?
  sriovdp -explain -config-file f   which device goes where, and why not elsewhere?

Flags (one or two dashes):
`

func parseFlags(args []string, stderr io.Writer) (*flags, error) {
	f := &flags{}
	set := flag.NewFlagSet("sriovdp", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Usage = func() {
		fmt.Fprint(stderr, usage)
		set.PrintDefaults()
	}
	o := &f.options
	o.Flags(set)
	set.BoolVar(&o.UseCDI, "use-cdi", false, "hand out devices through CDI specifications; needs kubelet 1.28 with the gate DevicePluginCDIDevices, or 1.29")
	set.BoolVar(&f.check, "check", false, "check the configuration and exit")
	set.BoolVar(&f.explain, "explain", false, "print which pool takes each device, and why the others do not, and exit")
	set.BoolVar(&f.version, "version", false, "print the version and exit")
	set.StringVar(&f.metricsAddress, "metrics-address", "", "`address` for /metrics, and for /healthz and /readyz without -health-address; a port alone, as :9809, is on 127.0.0.1; none if empty")
	set.StringVar(&f.healthAddress, "health-address", "", "`address` for /healthz and /readyz, apart from /metrics; a port alone is on 127.0.0.1")
	set.StringVar(&f.logFormat, "log-format", "json", "text or json")
	set.IntVar(&f.logLevel, "log-level", 10, "`level`: 0 warnings, 1 to 10 changes, 11 and up everything")
	set.StringVar(&f.logDir, "log-dir", "", "also log to the file sriovdp.log in `directory`, below /var/log unless absolute")

	set.StringVar(&o.DevRoot, "dev-root", "", "`directory` that holds dev (default: the one that holds sys)")
	set.StringVar(&o.CDIDir, "cdi-dir", "/var/run/cdi", "`directory` for CDI specifications")
	set.StringVar(&o.DeviceInfoDir, "device-info-dir", "/var/run/k8s.cni.cncf.io/devinfo/dp", "`directory` for device information for CNI plugins")

	set.StringVar(&f.draDriver, "dra-driver-name", "sriovnetwork.k8snetworkplumbingwg.io", "`name` of the DRA driver that may have served the node before: devices in its records, in plugins/NAME/claims of kubelet's directory, are in use; none if empty")

	legacyLogFlags(set)
	if err := command.Parse(set, args); err != nil {
		return nil, err
	}
	return f, f.complete()
}

// complete checks values and fills in those that depend on others.
func (f *flags) complete() error {
	o := &f.options
	if !slices.Contains([]string{"text", "json"}, f.logFormat) {
		return command.UsageError{Err: fmt.Errorf("-log-format %q: want text or json", f.logFormat)}
	}
	if err := o.Complete(); err != nil {
		return command.UsageError{Err: err}
	}
	switch {
	case f.draDriver == "":
	case f.draDriver != filepath.Base(f.draDriver) || f.draDriver[0] == '.':
		return command.UsageError{Err: fmt.Errorf("-dra-driver-name %q: want a name such as sriov.example.com", f.draDriver)}
	default:
		o.Records = filepath.Join(o.KubeletDir, "plugins", f.draDriver, "claims")
	}
	for name, address := range map[string]*string{"metrics-address": &f.metricsAddress, "health-address": &f.healthAddress} {
		if err := command.Loopback(address); err != nil {
			return command.UsageError{Err: fmt.Errorf("-%s: %w", name, err)}
		}
	}
	if o.DevRoot == "" {
		o.DevRoot = o.SysfsRoot
	}
	if f.logDir != "" && !filepath.IsAbs(f.logDir) {
		f.logDir = filepath.Join("/var/log", filepath.Clean("/"+f.logDir))
	}
	return nil
}

// legacyLogFlags accepts the flags of the logging library that the SR-IOV
// network device plugin uses. What they tune does not exist here.
func legacyLogFlags(set *flag.FlagSet) {
	const ignored = "accepted for compatibility, without effect"
	for _, name := range []string{"alsologtostderr", "logtostderr"} {
		set.Bool(name, false, ignored)
	}
	for _, name := range []string{"log_backtrace_at", "log_link", "log_dir", "logbuflevel", "stderrthreshold", "v", "vmodule"} {
		set.String(name, "", ignored)
	}
}

// newLogger makes the process's logger, and what closes its file.
func newLogger(f *flags, stderr io.Writer) (*slog.Logger, func(), error) {
	level := slog.LevelInfo
	switch {
	case f.logLevel >= logDebug:
		level = slog.LevelDebug
	case f.logLevel < logChanges:
		level = slog.LevelWarn
	}
	out, closeFile := stderr, func() {}
	if f.logDir != "" {
		if err := os.MkdirAll(f.logDir, 0o755); err != nil {
			return nil, nil, fmt.Errorf("log directory: %w", err)
		}
		file, err := os.OpenFile(filepath.Join(f.logDir, "sriovdp.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, nil, fmt.Errorf("log file: %w", err)
		}
		out, closeFile = io.MultiWriter(stderr, file), func() { _ = file.Close() }
	}
	options := &slog.HandlerOptions{Level: level}
	if f.logFormat == "text" {
		return slog.New(slog.NewTextHandler(out, options)), closeFile, nil
	}
	return slog.New(slog.NewJSONHandler(out, options)), closeFile, nil
}
