// SPDX-License-Identifier: Apache-2.0

package devlink_test

import (
	"fmt"
	"log"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/devlink"
)

func Example() {
	c, err := devlink.Open()
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	pf := devlink.PCI(libsriov.Address{Bus: 0x3b})
	mode, err := c.Mode(pf)
	if err != nil {
		log.Fatal(err) // errors.Is(err, devlink.ErrNotSupported): the driver knows one mode only
	}
	fmt.Println(mode == devlink.Switchdev)
}
