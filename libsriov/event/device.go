// SPDX-License-Identifier: Apache-2.0

package event

import (
	"strconv"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov"
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
