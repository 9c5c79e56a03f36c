// SPDX-License-Identifier: Apache-2.0

package pciname_test

import (
	"fmt"

	"github.com/sriovkit/sriovkit/libsriov/pciname"
)

func Example() {
	names := pciname.Open() // without a database every name is empty
	fmt.Println(names.Vendor(0x8086), names.Device(0x8086, 0x10ca))
}
