// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/link"
)

// Causes of a look at the host, as the rescans metric names them.
const (
	causeStart    = "start"
	causeConfig   = "config"
	causeDevice   = "device"
	causeLink     = "link"
	causeRoute    = "route"
	causePeriodic = "periodic"
)

// isEvent reports whether a cause is an event of the kernel, of which many may follow each
// other.
func isEvent(cause string) bool {
	return cause == causeDevice || cause == causeLink || cause == causeRoute
}

// hardware is what the kernel tells of devices, interfaces and default routes.
type hardware struct {
	devices *event.Devices
	links   *event.Links
	routes  *event.DefaultRoutes
}

func watchHardware() (*hardware, error) {
	devices, err := event.OpenDevices()
	if err != nil {
		return nil, err
	}
	links, err := event.OpenLinks(nil)
	if err != nil {
		return nil, errors.Join(err, devices.Close())
	}
	routes, err := event.OpenDefaultRoutes(nil)
	if err != nil {
		return nil, errors.Join(err, devices.Close(), links.Close())
	}
	return &hardware{devices, links, routes}, nil
}

// followDevices sends a cause for each event that may change a device, until ctx
// ends.
func (inv *Inventory) followDevices(ctx context.Context, devices *event.Devices, causes chan<- string) error {
	defer devices.Close()
	for {
		e, err := devices.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		isSettled := e.Subsystem == "net" && inv.settled.has(e.Function.String())
		switch {
		case e.Action == event.Missed || concerns(e) && !isSettled:
			send(ctx, causes, causeDevice)
		case isSettled: // back from a pod, or on the way to one
			inv.LettingGo()
		}
	}
}

// concerns reports whether an event is about a PCI function or something below one. The
// virtual interfaces of a node that starts and stops pods are not.
func concerns(e event.Device) bool {
	switch e.Subsystem {
	case "pci", "net", "auxiliary", "vdpa", "infiniband", "infiniband_verbs", "vfio", "vfio-dev", "uio":
		return e.Function != libsriov.Address{}
	}
	return false
}

// settled has the VFs whose interfaces tell nothing that is not known: they come and go with
// pods. What is learnt from an interface of such a VF is its link type, which stays.
type settled struct {
	vfs atomic.Pointer[map[string]bool]
}

func (s *settled) settle(devices []pool.Device, needs pool.Needs) {
	vfs := make(map[string]bool, len(devices))
	for i := range devices {
		d := &devices[i]
		// A kernel driver that has just been bound makes the interface in a while, and what
		// RDMA and vDPA devices there are by then is told by their own events.
		if d.PF != nil && d.Type != config.AuxNetDevice && (d.LinkType != 0 || !needs.LinkType) {
			vfs[d.ID] = true
		}
	}
	s.vfs.Store(&vfs)
}

func (s *settled) has(id string) bool {
	vfs := s.vfs.Load()
	return vfs != nil && (*vfs)[id]
}

func (inv *Inventory) followLinks(ctx context.Context, links *event.Links, causes chan<- string) error {
	defer links.Close()
	seen := linkStates{}
	for {
		e, err := links.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if !seen.changed(e, inv.settled.has(e.Link.Parent), inv.facts.needs) {
			continue
		}
		inv.log.Debug("interface changed", "ifname", e.Link.Name, "carrier", e.Link.Carrier())
		inv.facts.routesChanged.Store(true)
		send(ctx, causes, causeLink)
	}
}

func (inv *Inventory) followRoutes(ctx context.Context, routes *event.DefaultRoutes, causes chan<- string) error {
	defer routes.Close()
	for {
		index, err := routes.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if index != 0 && !inv.facts.needs(index) {
			continue // no default route went with that address
		}
		inv.facts.routesChanged.Store(true)
		send(ctx, causes, causeRoute)
	}
}

func send(ctx context.Context, causes chan<- string, cause string) {
	select {
	case causes <- cause:
	case <-ctx.Done():
	}
}

// linkStates remembers what of each interface matters here, so that of the many
// events of a node that starts and stops pods none costs a look at the host.
type linkStates map[int]linkState

type linkState struct {
	name          string
	altNames      int
	carrier       bool
	master, lower int
}

// changed reports whether an event may change which device is offered, or its health. Of a
// settled VF only what it is a port of does; a virtual interface only matters if the default
// route needs it or what it is a port of.
func (s linkStates) changed(e event.Link, settled bool, needed func(index int) bool) bool {
	l := e.Link
	if e.Action == event.Missed {
		return true
	}
	if !matters(l) {
		return false
	}
	was := s[l.Index]
	aside := l.Kind != "" && !needed(l.Index) && (l.Master == 0 || !needed(l.Master)) && (was.master == 0 || !needed(was.master))
	if e.Action == event.Remove {
		_, known := s[l.Index]
		delete(s, l.Index)
		return known && !aside && (!settled || was.master != 0)
	}
	now := linkState{l.Name, len(l.AltNames), l.Carrier(), l.Master, l.Lower}
	before, known := s[l.Index]
	s[l.Index] = now
	switch {
	case aside:
		return false
	case settled:
		return now.master != before.master
	}
	return !known || now != before
}

// matters reports whether an interface is hardware, or of a kind that default routes go
// through (bonds, bridges, VLANs).
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

// gather waits until the events that belong together have come. It ends at once, and says so,
// when the configuration has changed as well: whoever made VFs offers them next.
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
