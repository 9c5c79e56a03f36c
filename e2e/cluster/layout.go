// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"strings"
)

// Layout is where nodes keep what distributions disagree on. The zero value is what most do.
type Layout struct {
	CNIBin      string // plugins; empty is /opt/cni/bin
	CNIConf     string // configuration of the primary network; empty is /etc/cni/net.d
	KubeletRoot string // empty is /var/lib/kubelet
	// Immutable mounts /etc and /usr read-only before kubelet starts and takes modprobe
	// away, from the kernel, too: whoever needs a module has to load it otherwise.
	Immutable bool
}

func (l Layout) withDefaults() Layout {
	l.CNIBin = cmp.Or(l.CNIBin, "/opt/cni/bin")
	l.CNIConf = cmp.Or(l.CNIConf, "/etc/cni/net.d")
	l.KubeletRoot = cmp.Or(l.KubeletRoot, "/var/lib/kubelet")
	return l
}

// containerd is the configuration of a containerd whose nodes have this layout.
func (l Layout) containerd(config string) []byte {
	return []byte(strings.NewReplacer(`"/opt/cni/bin"`, `"`+l.CNIBin+`"`, `"/etc/cni/net.d"`, `"`+l.CNIConf+`"`).Replace(config))
}
