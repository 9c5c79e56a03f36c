// SPDX-License-Identifier: Apache-2.0

// The pause command holds the namespaces of a pod: it does nothing until it is
// asked to end.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
