// SPDX-License-Identifier: Apache-2.0

// Package inventory follows the hardware, the configuration file and what pods hold, and
// keeps the resource pools that follow from them: which device is in which pool, and why the
// others are in none. Package plugin serves the pools to kubelet's device manager, package
// dra/driver serves them to claims.
//
// One goroutine looks at the host and assigns devices; events only make it look again.
// What it cannot find out is not taken for "none": devices that cannot be read stay as they
// were, and while it is not known what pods hold, no device changes its pool.
package inventory

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"golang.org/x/sync/errgroup"
)

// Options say where everything is.
type Options struct {
	ConfigFile     string
	ResourcePrefix string // of pools without one of their own
	// WaitForConfig starts without pools while the file does not exist, cannot be read or is
	// refused: who wrote it will write it again.
	WaitForConfig bool

	SysfsRoot string // holds the directory sys
	// Captured: the tree is not that of the running kernel, whose interfaces,
	// routes and events have nothing to do with it.
	Captured bool

	KubeletDir   string
	PodResources string // socket
	// Self is the pod of this process, from kubelet.Self. A list of kubelet's without it is
	// incomplete, because kubelet has just started, and is not used. With "" every list is.
	Self string
	// Claims lists the devices that resource claims have, from the driver's own records. It is
	// set where the pools are served to claims; devices that pods have through kubelet's device
	// manager are then in use elsewhere. It is nil where the pools are served to the device
	// manager; devices that claims have are in use elsewhere then.
	Claims func() (map[string]pool.Holder, error)
	// Driver is the name of the DRA driver whose claims Claims lists.
	Driver string
	// Records is the directory in which a DRA driver on the same node keeps what claims
	// have, for pools that are served to kubelet's device manager: kubelet's list leaves out
	// claims that no container refers to, those of init containers, and those of pods that
	// were deleted by force. "", or no such directory, is no driver.
	Records string

	// Rescan is how often to look at the host though nothing was heard.
	Rescan time.Duration
}

// State is the pools at one moment. It is not changed after it was handed out.
type State struct {
	Pools []Pool // in the order of the configuration
	// Known is false while the devices of new pools, or what pods hold of them, are not
	// known yet. The pools have no members then, which is not to say that they will have
	// none, and nothing of what is offered is to change.
	Known bool
	// Asked: Held is what kubelet has just said. Only then may a file be removed because
	// nobody holds a device.
	Asked bool
	// Doubtful: devices wait for holders that only the device manager's checkpoint names,
	// perhaps because it is old, or for a checkpoint that cannot be read. It is written anew
	// whenever kubelet is sent a list, and be it, while the devices are not known, an empty one.
	Doubtful bool
	// Held has the devices that are in use, by ID.
	Held map[string]pool.Holder
	// Devices are all that the host has, whatever pool they are in.
	Devices []pool.Device
}

// Pool is a pool with its devices.
type Pool struct {
	config.Pool
	// Members are in the order of PF and VF index. Those that only a pod keeps here, see
	// pool.Assignment.Keep, come last.
	Members []pool.Member
}

// Serve offers the pools of a state in the place of those before. Calls come from one
// goroutine, one after the other. It returns true to have the host looked at again soon.
// Devices that a pool has lost are refused by [Inventory.Give] before Serve is called.
type Serve func(ctx context.Context, s State) (again bool)

// Inventory follows a host.
type Inventory struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics.Metrics
	status  status
	holders *holders
	ledger  ledger
	seen    atomic.Pointer[[]pool.Device] // of the last look, for scrapes
	settled settled
	inForce inForce
	signs   chan struct{} // of pods that go

	// Of the goroutine that runs loop.
	serve Serve
	facts *facts
	file  *configFile
	begun *contents // of the configuration file at the start
	cfg   config.Config
	// configured: there was a good configuration since the start, or at the start none.
	configured bool
	devices    []pool.Device
	sighted    bool // devices were listed at least once
	members    map[config.Resource][]pool.Member
	lost       bool // pods hold devices that their pool would not take now, or another would
	others     bool // pods hold, in another way, devices that a pool would take
	looked     time.Time
	hurried    time.Time // of the last sign that a pod goes
	again      bool      // what Serve said
	doubts     int       // times in a row that a state was doubtful
	only       int       // holders.only then
	broken     map[string]bool
}

// New opens what the options name.
func New(opts Options, m *metrics.Metrics, log *slog.Logger) (*Inventory, error) {
	f, err := openFacts(opts, log)
	if err != nil {
		return nil, err
	}
	return &Inventory{
		opts: opts, log: log, metrics: m, facts: f,
		signs:   make(chan struct{}, 1),
		holders: newHolders(opts, log), members: map[config.Resource][]pool.Member{},
	}, nil
}

// Run calls serve with the pools, and again whenever they or their devices have changed,
// until ctx ends. It fails if the configuration is bad at the start, or if the kernel's
// notifications break. Every call has returned when it returns.
func (inv *Inventory) Run(ctx context.Context, serve Serve) error {
	defer inv.facts.close()
	inv.serve = serve
	file, err := watchConfig(inv.opts.ConfigFile) // first watch, then read
	if err != nil {
		return err
	}
	inv.file, inv.begun = file, file.last.Load()
	if inv.cfg, err = inv.begun.parse(inv.opts.ConfigFile, inv.opts.ResourcePrefix); err == nil {
		inv.metrics.ConfigGood.Set(1)
	} else if !inv.opts.WaitForConfig {
		return errors.Join(err, file.notify.Close())
	} else {
		inv.log.Warn("no configuration yet, waiting for it", "path", inv.opts.ConfigFile, "err", err)
		inv.status.configured(err)
	}
	inv.configured = err == nil || errors.Is(err, fs.ErrNotExist)

	group, ctx := errgroup.WithContext(ctx)
	causes, changed := make(chan string), make(chan struct{})
	if !inv.opts.Captured {
		h, err := watchHardware() // before the first look
		if err != nil {
			return errors.Join(err, file.notify.Close())
		}
		group.Go(func() error { return inv.followDevices(ctx, h.devices, causes) })
		group.Go(func() error { return inv.followLinks(ctx, h.links, causes) })
		group.Go(func() error { return inv.followRoutes(ctx, h.routes, causes) })
	}
	group.Go(func() error { return file.run(ctx, changed) })
	group.Go(func() error {
		inv.loop(ctx, causes, changed)
		return nil
	})
	return group.Wait()
}

// Devices are those that the last look at the host found; nil before it.
func (inv *Inventory) Devices() []pool.Device {
	if d := inv.seen.Load(); d != nil {
		return *d
	}
	return nil
}

// Give reserves devices of a resource for a container; it is the first step of giving them
// out. It fails with ErrNotOffered if the resource's pool has lost one of them. From then on no
// other pool gets them until kubelet says that no pod has them. The caller calls undo if a
// later step fails.
func (inv *Inventory) Give(r config.Resource, ids []string) (undo func(), err error) {
	if err := inv.holders.unclaimed(ids); err != nil {
		return nil, err
	}
	return inv.ledger.give(r, ids)
}

// Plugged asks now which devices pods have through kubelet's device manager: the resource by
// device ID. With an error that wraps ErrCheckpoint the answer is kubelet's, and lacks what
// its checkpoint alone may name.
func (inv *Inventory) Plugged(ctx context.Context) (map[string]config.Resource, error) {
	return inv.holders.plugged(ctx)
}

// Return notes that nobody has devices any more that were given, other than what kubelet
// lists.
func (inv *Inventory) Return(ids []string) { inv.ledger.giveBack(ids) }

// Held says who has a device; ok is false if nobody is known to.
func (inv *Inventory) Held(id string) (h pool.Holder, ok bool) { return inv.ledger.holder(id) }
