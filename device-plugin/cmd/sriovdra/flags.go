// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/command"
	"github.com/sriovkit/sriovkit/device-plugin/inventory"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

type flags struct {
	inventory        inventory.Options
	driverName       string
	nodeName         string
	podUID           string
	kubeconfig       string
	devRoot          string
	cdiDir           string
	deviceInfoDir    string
	attachmentsDir   string
	bindDrivers      bool
	evictOnNoCarrier bool
	logLevel         slog.Level
	orphansEvery     time.Duration // no flag
	healthSocket     string
	metricsAddress   string
	probe, version   bool
}

const usage = `Usage: sriovdra [flags]

Offers SR-IOV virtual functions and other network hardware to Kubernetes as devices of
ResourceSlices, and prepares them for the claims of pods. The configuration is that of
sriovdp; pools follow the hardware and the file live.

  sriovdra -probe -health-socket s  is the driver ready, and what does it wait for?

Flags (one or two dashes):
`

// driverName is the default: claims and CEL expressions written for dra-driver-sriov name it.
const driverName = "sriovnetwork.k8snetworkplumbingwg.io"

func parseFlags(args []string, stderr io.Writer) (*flags, error) {
	f := &flags{orphansEvery: time.Minute}
	set := flag.NewFlagSet("sriovdra", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Usage = func() {
		fmt.Fprint(stderr, usage)
		set.PrintDefaults()
	}
	o := &f.inventory
	o.Flags(set)
	set.StringVar(&f.driverName, "driver-name", driverName, "`name` of the DRA driver")
	set.StringVar(&f.nodeName, "node-name", os.Getenv("NODE_NAME"), "`name` of the Node (default: the environment's NODE_NAME)")
	set.StringVar(&f.podUID, "pod-uid", os.Getenv("POD_UID"), "`UID` of this pod (default: the environment's POD_UID); with it an old and a new instance may run side by side")
	set.StringVar(&f.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig `file` (default: the environment's KUBECONFIG, else the pod's service account)")
	set.BoolVar(&f.bindDrivers, "bind-drivers", false, "bind a VF to the driver that its claim asks for, while the claim lasts; needs a writable /sys")
	set.BoolVar(&f.evictOnNoCarrier, "evict-on-no-carrier", false, "taint devices of pools with linkHealth NoExecute, not NoSchedule, while their PF has no carrier")
	set.StringVar(&f.healthSocket, "health-socket", "", "`socket` at which GET /readyz says whether kubelet knows the driver and the slices are published; none if empty")
	set.StringVar(&f.metricsAddress, "metrics-address", "", "`address` for /metrics while the node's devices are this driver's; a port alone, as :9809, is on 127.0.0.1; none if empty")
	set.BoolVar(&f.probe, "probe", false, "ask the driver at -health-socket whether it is ready, say what it waits for, and exit")
	set.BoolVar(&f.version, "version", false, "print the version and exit")
	set.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "least `level` that is logged: DEBUG, INFO, WARN or ERROR")

	set.StringVar(&f.devRoot, "dev-root", "", "`directory` that holds dev (default: the one that holds sys)")
	set.StringVar(&f.cdiDir, "cdi-dir", "/var/run/cdi", "`directory` for CDI specifications")
	set.StringVar(&f.deviceInfoDir, "device-info-dir", "/var/run/k8s.cni.cncf.io/devinfo/dp", "`directory` for device information for CNI plugins")
	set.StringVar(&f.attachmentsDir, "attachments-dir", "/var/run/k8s.cni.cncf.io/attachments", "`directory` in which the meta plugin says what became of pods' networks")
	if err := command.Parse(set, args); err != nil {
		return nil, err
	}
	return f, f.complete()
}

// complete checks values and fills in those that depend on others.
func (f *flags) complete() error {
	o := &f.inventory
	switch {
	case f.version:
		return nil
	case f.probe && f.healthSocket == "":
		return command.UsageError{Err: errors.New("-probe without -health-socket: name the socket that the driver was given")}
	case f.probe:
		return nil
	}
	if p := nameProblem(f.driverName); p != "" {
		return command.UsageError{Err: fmt.Errorf("-driver-name %.80q: %s", f.driverName, p)}
	}
	if f.nodeName == "" {
		return command.UsageError{Err: errors.New("-node-name is empty and so is the environment's NODE_NAME: want the name of the Node")}
	}
	if err := o.Complete(); err != nil {
		return command.UsageError{Err: err}
	}
	if err := command.Loopback(&f.metricsAddress); err != nil {
		return command.UsageError{Err: fmt.Errorf("-metrics-address: %w", err)}
	}
	if f.devRoot == "" {
		f.devRoot = o.SysfsRoot
	}
	return nil
}

// nameProblem is why a driver cannot have a name: the API and kubelet take at most 63 bytes, and
// as the vendor of CDI devices it begins with a letter.
func nameProblem(name string) string {
	p := validation.IsDNS1123Subdomain(name)
	switch {
	case len(p) > 0:
		return p[0]
	case len(name) > resourceapi.DriverNameMaxLength:
		return fmt.Sprintf("%d bytes; want at most %d", len(name), resourceapi.DriverNameMaxLength)
	case name[0] < 'a':
		return "want a letter at its beginning, as in sriov.example.com"
	}
	return ""
}

// pluginDir is where kubelet wants a driver's socket.
func (f *flags) pluginDir() string {
	return filepath.Join(f.inventory.KubeletDir, "plugins", f.driverName)
}
