// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/stretchr/testify/require"
)

// BenchmarkReload takes the time from a change of the configuration file to the
// new device list at kubelet, on a host with 1 024 VFs and 16 pools of which one
// changes.
func BenchmarkReload(b *testing.B) {
	n := newNode(b, true)
	root := b.TempDir()
	require.NoError(b, sriovtest.Unpack(root, sriovtest.Generate(sriovtest.Spec{PFs: 8, VFs: 128, Bystanders: 150, VFDriver: "vfio-pci"})))
	n.options.SysfsRoot, n.options.DevRoot, n.options.Rescan = root, root, time.Hour
	pools := func(last int) (list []string) {
		for i := range 16 {
			first := i % 2 * 64
			to := first + 63
			if i == 15 {
				to = first + last
			}
			list = append(list, pool(fmt.Sprintf("p%d", i), fmt.Sprintf(`"pfNames": ["pf%d#%d-%d"]`, i/2, first, to)))
		}
		return list
	}
	n.configure(pools(63)...)
	k := n.kubelet()
	n.start()
	k.AwaitCount("example.com/p15", 64)
	last := 63
	for b.Loop() {
		last = 62 + (last+1)%2
		n.configure(pools(last)...)
		k.AwaitCount("example.com/p15", last+1)
	}
}

// BenchmarkAllocate answers for one container with two VFIO functions.
func BenchmarkAllocate(b *testing.B) {
	n := newNode(b, true, pool("a", `"drivers": ["vfio-pci"]`))
	k := n.kubelet()
	n.start()
	k.AwaitCount("example.com/a", 2)
	for b.Loop() {
		if _, err := k.Allocate("example.com/a", testhost.VF1, testhost.VF2); err != nil {
			b.Fatal(err)
		}
	}
}
