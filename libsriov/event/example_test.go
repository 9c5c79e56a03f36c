// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"context"
	"fmt"
	"log"

	"github.com/sriovkit/sriovkit/libsriov/event"
)

// Subscribe first and look then: what happens in between is told.
func Example() {
	devices, err := event.OpenDevices()
	if err != nil {
		log.Fatal(err)
	}
	defer devices.Close()
	for {
		e, err := devices.Next(context.TODO())
		if err != nil {
			log.Fatal(err)
		}
		if e.Action == event.Missed {
			fmt.Println("look again: events were lost")
			continue
		}
		fmt.Println(e.Action, e.Subsystem, e.Function)
	}
}
