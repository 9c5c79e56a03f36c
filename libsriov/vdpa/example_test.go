// SPDX-License-Identifier: Apache-2.0

package vdpa_test

import (
	"fmt"
	"log"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/vdpa"
)

func Example() {
	vf := libsriov.Address{Bus: 0x3b, Device: 2, Function: 1}
	if err := vdpa.Add("vdpa:"+vf.String(), vdpa.Of(vf)); err != nil {
		log.Fatal(err)
	}
	devices, err := vdpa.Devices()
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range devices {
		fmt.Println(d.Name, d.Driver)
	}
}
