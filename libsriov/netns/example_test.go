// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"fmt"
	"log"
	"net"
	"os"

	"github.com/sriovkit/sriovkit/libsriov/netns"
)

func ExampleWithin() {
	pod, err := os.Open("/var/run/netns/pod")
	if err != nil {
		log.Fatal(err)
	}
	defer pod.Close()
	err = netns.Within(pod, func() error {
		interfaces, err := net.Interfaces()
		fmt.Println(len(interfaces), "interfaces in the pod")
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}
