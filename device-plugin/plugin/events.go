package plugin

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/link"
)

// Causes of a look at the host, as the rescans metric names them.
const (
	causeStart    = "start"
	causeConfig   = "config"
	causeDevice   = "device"
	causeLink     = "link"
	causePeriodic = "periodic"
)

// watchHardware subscribes to what the kernel tells of devices and interfaces.
// Run delivers.
func watchHardware() (*hardware, error) {
	devices, err := event.OpenDevices()
	if err != nil {
		return nil, err
	}
	links, err := event.OpenLinks(nil)
	if err != nil {
		return nil, errors.Join(err, devices.Close())
	}
	return &hardware{devices: devices, links: links}, nil
}

type hardware struct {
	devices *event.Devices
	links   *event.Links
}

// runDevices sends a cause for each event that may change a device, until ctx
// ends.
func (h *hardware) runDevices(ctx context.Context, causes chan<- string) error {
	defer h.devices.Close()
	for {
		e, err := h.devices.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Action == event.Missed || concerns(e.Subsystem) {
			send(ctx, causes, causeDevice)
		}
	}
}

// concerns tells whether a device of a subsystem is one of ours or belongs to
// one.
func concerns(subsystem string) bool {
	switch subsystem {
	case "pci", "net", "auxiliary", "vdpa", "infiniband", "infiniband_verbs", "vfio", "uio":
		return true
	}
	return false
}

func (h *hardware) runLinks(ctx context.Context, causes chan<- string, log *slog.Logger) error {
	defer h.links.Close()
	seen := linkStates{}
	for {
		e, err := h.links.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if seen.changed(e) {
			log.Debug("interface changed", "ifname", e.Link.Name, "carrier", e.Link.Carrier())
			send(ctx, causes, causeLink)
		}
	}
}

func send(ctx context.Context, causes chan<- string, cause string) {
	select {
	case causes <- cause:
	case <-ctx.Done():
	}
}

// linkStates remembers what of each interface matters here, so that the many
// events of a node that starts and stops pods cost nothing.
type linkStates map[int]linkState

type linkState struct {
	name          string
	altNames      int
	carrier       bool
	master, lower int
}

// changed tells whether an event may change which device is offered, or its
// health.
func (s linkStates) changed(e event.Link) bool {
	l := e.Link
	switch {
	case e.Action == event.Missed:
		return true
	case !matters(l):
		return false
	case e.Action == event.Remove:
		_, known := s[l.Index]
		delete(s, l.Index)
		return known
	}
	now := linkState{l.Name, len(l.AltNames), l.Carrier(), l.Master, l.Lower}
	before, known := s[l.Index]
	s[l.Index] = now
	return !known || now != before
}

// matters: hardware, and what a default route may go through on its way there.
func matters(l link.Link) bool {
	switch l.Kind {
	case "bond", "bridge", "team", "vlan", "macvlan", "openvswitch":
		return true
	}
	return l.Kind == "" && l.Parent != ""
}

// Times for gathering events into one look at the host: creating a VF makes a
// dozen. quietTime after the last one, but not later than gatherTime after the
// first.
const (
	quietTime  = 10 * time.Millisecond
	gatherTime = 40 * time.Millisecond
)

// gather swallows events that belong together. It ends at once, and says so, when the
// configuration has changed as well: whoever made VFs offers them next.
func gather(ctx context.Context, causes <-chan string, changed <-chan struct{}) bool {
	last := time.NewTimer(gatherTime)
	defer last.Stop()
	for {
		quiet := time.NewTimer(quietTime)
		select {
		case <-causes:
			quiet.Stop()
			continue
		case <-changed:
			quiet.Stop()
			return true
		case <-quiet.C:
		case <-last.C:
		case <-ctx.Done():
		}
		quiet.Stop()
		return false
	}
}
