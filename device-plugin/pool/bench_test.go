// SPDX-License-Identifier: Apache-2.0

package pool_test

import (
	"fmt"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// large is a host with 1 024 VFs and a configuration with 16 pools.
func large(b *testing.B) (pool.Source, []string) {
	b.Helper()
	src := pool.Source{Host: sriovtest.Generated(b, sriovtest.Spec{PFs: 8, VFs: 128, Bystanders: 150, VFDriver: "vfio-pci"})}
	var bodies []string
	for i := range 16 {
		first := i % 2 * 64
		bodies = append(bodies, selecting(fmt.Sprintf(`"vendors": ["8086"], "drivers": ["vfio-pci"], "pfNames": ["pf%d#%d-%d"]`, i/2, first, first+63)))
	}
	return src, bodies
}

func BenchmarkRead(b *testing.B) {
	src, bodies := large(b)
	needs := config.NeedsOf(parse(b, bodies...))
	for b.Loop() {
		if _, err := pool.Read(src, needs); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAssign(b *testing.B) {
	src, bodies := large(b)
	pools := parse(b, bodies...)
	devices := read(b, src, pools)
	for b.Loop() {
		pool.Assign(devices, pools, nil)
	}
}

// Every pod of a large node holds its device, and a look keeps them.
func BenchmarkKeep(b *testing.B) {
	pools := parse(b, selecting(`"drivers": ["vfio-pci"]`))
	devices, held := make([]pool.Device, 4096), map[string]pool.Holder{}
	for i := range devices {
		address := libsriov.Address{Domain: uint32(i), Bus: 1}
		devices[i] = pool.Device{ID: address.String(), Type: config.NetDevice}
		devices[i].Address, devices[i].Driver = address, "vfio-pci"
		held[address.String()] = pool.Holder{Resource: pools[0].Resource}
	}
	a := pool.Assign(devices, pools, held)
	for b.Loop() {
		a.Keep(devices, pools, nil, held)
	}
}
