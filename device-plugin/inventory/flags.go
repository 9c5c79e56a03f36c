// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"flag"
	"fmt"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
)

// Flags adds the options to a command line, with their defaults; Complete belongs after
// it is parsed.
func (o *Options) Flags(set *flag.FlagSet) {
	set.StringVar(&o.ConfigFile, "config-file", "/etc/pcidp/config.json", "configuration `file`, JSON")
	set.StringVar(&o.ResourcePrefix, "resource-prefix", "intel.com", "`prefix` of resources without one of their own")
	set.BoolVar(&o.WaitForConfig, "wait-for-config", false, "start without pools while the configuration file does not exist, cannot be read or is refused")
	set.StringVar(&o.SysfsRoot, "sysfs-root", "/", "`directory` that holds sys")
	set.BoolVar(&o.Captured, "captured", false, "sysfs-root is a captured tree: leave out this machine's interfaces, routes and events")
	set.StringVar(&o.KubeletDir, "kubelet-dir", "/var/lib/kubelet", "kubelet's `directory`")
	set.StringVar(&o.PodResources, "pod-resources-socket", "", "kubelet's pod-resources `socket` (default: pod-resources/kubelet.sock in kubelet's directory)")
	set.DurationVar(&o.Rescan, "rescan", time.Minute, "`time` after which to look at the hardware though it reported no change")
}

// Complete checks the values and fills in those that depend on others.
func (o *Options) Complete() error {
	if o.Rescan < time.Second {
		return fmt.Errorf("-rescan %s: want 1s or more", o.Rescan)
	}
	if o.PodResources == "" {
		o.PodResources = kubelet.Dirs(o.KubeletDir).PodResources()
	}
	o.Self = kubelet.Self()
	return nil
}
