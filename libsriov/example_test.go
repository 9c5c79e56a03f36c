// SPDX-License-Identifier: Apache-2.0

package libsriov_test

import (
	"fmt"
	"log"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
)

func Example() {
	host, err := libsriov.Open("/")
	if err != nil {
		log.Fatal(err)
	}
	snapshot, err := host.Snapshot()
	if err != nil {
		log.Print(err) // some device is broken; the others are there
	}
	for _, pf := range snapshot.PFs {
		fmt.Println(pf.Address, pf.Driver, pf.NumVFs, "of", pf.TotalVFs)
	}
}

func Example_vfState() {
	c, err := link.Open(nil)
	if err != nil {
		log.Fatal(err)
	}
	pf, err := c.ByParent(libsriov.Address{Bus: 0x3b})
	if err != nil {
		log.Fatal(err)
	}
	const vf = 3
	have, err := c.VFState(pf.Index, vf)
	if err != nil {
		log.Fatal(err)
	}
	want := vfstate.State{VLAN: &vfstate.VLAN{ID: 100}, Trust: vfstate.On}
	if err := c.SetVF(pf.Index, vf, vfstate.Diff(have, want)); err != nil {
		log.Fatal(err) // names the attribute that the driver refused
	}
	c.Close()
}
