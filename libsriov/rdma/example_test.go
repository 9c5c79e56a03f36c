// SPDX-License-Identifier: Apache-2.0

package rdma_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/sriovkit/sriovkit/libsriov/rdma"
)

func Example() {
	c, err := rdma.Open(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	switch mode, err := c.Mode(); {
	case errors.Is(err, rdma.ErrNotSupported):
		fmt.Println("no RDMA here")
	case err != nil:
		log.Fatal(err)
	default:
		fmt.Println(mode == rdma.Exclusive)
	}
}
