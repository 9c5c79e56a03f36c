// SPDX-License-Identifier: Apache-2.0

package event

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// Devices is a subscription to events about devices.
type Devices struct {
	*subscription
}

// kernelGroup is where the kernel itself sends; group 2 is udev's.
const kernelGroup = 1

// OpenDevices subscribes. PCI events reach every network namespace, those of an
// interface only its own.
func OpenDevices() (*Devices, error) {
	s, err := subscribe(unix.NETLINK_KOBJECT_UEVENT, kernelGroup, nil)
	if err != nil {
		return nil, fmt.Errorf("subscribe to device events: %w", err)
	}
	return &Devices{s}, nil
}

// Next waits for an event. The error is ctx's cause once ctx has ended.
func (d *Devices) Next(ctx context.Context) (Device, error) {
	for {
		b, missed, err := d.next(ctx)
		switch {
		case err != nil:
			return Device{}, err
		case missed:
			return Device{Action: Missed}, nil
		}
		if e, ok := parseDevice(b); ok {
			return e, nil
		}
	}
}
