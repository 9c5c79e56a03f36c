// SPDX-License-Identifier: Apache-2.0

package value_test

import (
	"fmt"

	"github.com/sriovkit/sriovkit/libsriov/value"
)

func ExampleParseAddress() {
	a, err := value.ParseAddress("0000:3b:02.1")
	fmt.Println(a, err)
	// Output: 0000:3b:02.1 <nil>
}

func ExampleParseRange() {
	r, err := value.ParseRange("2-5")
	fmt.Println(r.Contains(5), r.Contains(6), err)
	// Output: true false <nil>
}

func ExampleDriverKindOf() {
	fmt.Println(value.DriverKindOf("mlx5_vfio_pci").Userspace(), value.DriverKindOf("iavf").Userspace())
	// Output: true false
}
