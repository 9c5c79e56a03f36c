// SPDX-License-Identifier: Apache-2.0

package link_test

import (
	"fmt"
	"log"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
)

func Example() {
	c, err := link.Open(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	pf, err := c.ByParent(libsriov.Address{Bus: 0x3b})
	if err != nil {
		log.Fatal(err) // errors.Is(err, link.ErrNotFound): no interface of that device here
	}
	states, err := c.VFStates(pf.Index)
	if err != nil {
		log.Fatal(err)
	}
	for vf, s := range states {
		fmt.Println(pf.Name, vf, s.MAC, s.VLAN)
	}
}
