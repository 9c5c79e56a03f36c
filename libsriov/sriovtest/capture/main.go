// SPDX-License-Identifier: Apache-2.0

// Command capture prints what libsriov reads of a host, as the text of a tree
// that sriovtest.Captured unpacks. It only reads and needs no privilege.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

func main() {
	root := flag.String("root", "/", "directory that holds sys")
	flag.Parse()
	text, err := sriovtest.Capture(*root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "capture:", err)
		os.Exit(1)
	}
	fmt.Print(text)
}
