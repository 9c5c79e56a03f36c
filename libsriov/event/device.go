// SPDX-License-Identifier: Apache-2.0

package event

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov"
	"golang.org/x/sys/unix"
)

// Action is what happened to a device
// (https://docs.kernel.org/admin-guide/abi-testing.html, uevent).
type Action string

// Actions of the kernel, and Missed for events that it had to drop.
const (
	Add    Action = "add"
	Remove Action = "remove"
	Change Action = "change"
	Move   Action = "move" // also a renamed interface
	Bind   Action = "bind"
	Unbind Action = "unbind"
	Missed Action = "missed"
)

// Device is an event about a device.
type Device struct {
	Action    Action
	Subsystem string           // "pci", "net", "vdpa", "infiniband", "auxiliary", …
	Path      string           // below /sys, e.g. "/devices/pci0000:00/…"
	Function  libsriov.Address // the innermost PCI function of Path; zero if there is none
	Interface string           // INTERFACE, of subsystem net
	Driver    string           // DRIVER, where the kernel names it
	// Number is the event's among all since the kernel booted, as SEQNUM; see
	// [libsriov.Host.Events]. 0 for Missed.
	Number uint64
}

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

// parseDevice reads "action@devpath" and the NUL-separated KEY=value pairs
// behind it; ok is false for anything else.
func parseDevice(b []byte) (e Device, ok bool) {
	head, rest, _ := strings.Cut(string(b), "\x00")
	action, path, ok := strings.Cut(head, "@")
	if !ok || action == "" || !strings.HasPrefix(path, "/") {
		return Device{}, false
	}
	e = Device{Action: Action(action), Path: path}
	for pair := range strings.SplitSeq(rest, "\x00") {
		switch key, value, _ := strings.Cut(pair, "="); key {
		case "SUBSYSTEM":
			e.Subsystem = value
		case "INTERFACE":
			e.Interface = value
		case "DRIVER":
			e.Driver = value
		case "SEQNUM":
			e.Number, _ = strconv.ParseUint(value, 10, 64) // 0 is before any
		}
	}
	for element := range strings.SplitSeq(path, "/") {
		if a, err := libsriov.ParseAddress(element); err == nil {
			e.Function = a
		}
	}
	return e, true
}
