// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/devlink"
	"github.com/sriovkit/sriovkit/libsriov/link"
)

// facts reads the host: sysfs, and unless the tree is a captured one rtnetlink
// and devlink.
type facts struct {
	host    *libsriov.Host
	links   *link.Conn    // nil for a captured tree
	devlink *devlink.Conn // nil if the kernel has none
	log     *slog.Logger

	// A router has a million routes; they are read only after something changed.
	routesChanged atomic.Bool
	defaults      []int // indexes of interfaces with default routes
	// needed has the interfaces that they stand on, pool.Network.Needed; nil while that is
	// being found out.
	needed atomic.Pointer[map[int]bool]

	ddpOf map[function]ddpAnswer
}

func openFacts(opts Options, log *slog.Logger) (*facts, error) {
	host, err := libsriov.Open(opts.SysfsRoot)
	if err != nil {
		return nil, err
	}
	f := &facts{host: host, log: log, ddpOf: map[function]ddpAnswer{}}
	f.routesChanged.Store(true)
	if opts.Captured {
		return f, nil
	}
	if f.links, err = link.Open(nil); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *facts) close() {
	if f.links != nil {
		_ = f.links.Close()
	}
	if f.devlink != nil {
		_ = f.devlink.Close()
	}
}

// errBlind: nothing can be said about the devices at this moment.
var errBlind = errors.New("devices stay as they are")

// read lists the devices. The list is good in spite of an error, unless that
// wraps errBlind.
func (f *facts) read(ctx context.Context, needs pool.Needs, cause string) ([]pool.Device, error) {
	src := pool.Source{Host: f.host}
	if f.links != nil {
		if cause == causePeriodic {
			f.routesChanged.Store(true) // in case an event is not told
			f.forgetDDPFailures()
		}
		var err error
		if src.Network, err = f.network(); err != nil {
			// Without the routes nobody can tell which device must stay.
			return nil, fmt.Errorf("%w: interfaces and default routes: %w", errBlind, err)
		}
		if needs.DDP || needs.RDMA {
			f.openDevlink()
		}
		src.DDP = func(pf libsriov.Function) (string, error) { return f.ddp(ctx, pf) }
		src.EnableRDMA = f.enableRDMA
	}
	devices, err := pool.Read(src, needs)
	if errors.Is(err, libsriov.ErrNoSnapshot) {
		return nil, fmt.Errorf("%w: %w", errBlind, err)
	}
	return devices, err
}

// needs reports whether a default route stands on an interface, or may.
func (f *facts) needs(index int) bool {
	n := f.needed.Load()
	return n == nil || (*n)[index]
}

func (f *facts) network() (pool.Network, error) {
	f.needed.Store(nil)                    // whoever asks before the end of this may know more than it finds
	changed := f.routesChanged.Swap(false) // before it reads: what comes meanwhile is read next time
	links, err := f.links.All()
	if err == nil && changed {
		f.defaults, err = f.links.DefaultRoutes()
	}
	if err != nil {
		f.routesChanged.Store(true)
		return pool.Network{}, err
	}
	n := pool.NewNetwork(links, f.defaults)
	needed := n.Needed()
	f.needed.Store(&needed)
	return n, nil
}

// openDevlink connects once. Its absence only costs the facts that nothing else
// tells.
func (f *facts) openDevlink() {
	if f.devlink != nil {
		return
	}
	c, err := devlink.Open()
	if err != nil {
		f.log.Debug("no devlink", "err", err)
		return
	}
	f.devlink = c
}

// enableRDMA reports whether a function is set up for RDMA.
func (f *facts) enableRDMA(a libsriov.Address) (bool, error) {
	if f.devlink == nil {
		return false, nil
	}
	on, err := f.devlink.BoolParam(devlink.PCI(a), "enable_rdma")
	if errors.Is(err, devlink.ErrNotSupported) {
		return false, nil
	}
	return on, err
}
