// Package plugin keeps resource pools in step with the hardware, the
// configuration file and kubelet. One goroutine looks at the host, assigns
// devices and publishes the pools; events only tell it to look again.
package plugin

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"golang.org/x/sync/errgroup"
)

// Options say where everything is.
type Options struct {
	ConfigFile     string
	ResourcePrefix string // of pools without one of their own
	UseCDI         bool
	// WaitForConfig starts without pools if the file does not exist yet.
	WaitForConfig bool

	SysfsRoot string // holds the directory sys
	DevRoot   string // holds the directory dev
	// Captured: the tree is not that of the running kernel, whose interfaces,
	// routes and events have nothing to do with it.
	Captured bool

	KubeletDir    string
	PodResources  string // socket
	CDIDir        string
	DeviceInfoDir string

	// Rescan is how often to look at the host though nothing was heard.
	Rescan time.Duration
}

// Plugin is the running whole.
type Plugin struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics.Metrics
	host    allocation.Host
	status  status
	holders *holders
	seen    atomic.Pointer[[]pool.Device] // devices, for scrapes

	// Of the goroutine that runs loop.
	facts     *facts
	cfg       config.Config
	devices   []pool.Device
	endpoints map[config.Resource]*endpoint
	watcher   *kubelet.Watcher
}

// New opens what the options name.
func New(opts Options, m *metrics.Metrics, log *slog.Logger) (*Plugin, error) {
	f, err := openFacts(opts, log)
	if err != nil {
		return nil, err
	}
	return &Plugin{
		opts: opts, log: log, metrics: m, facts: f,
		host:      allocation.Host{Host: f.host, DevRoot: opts.DevRoot},
		holders:   newHolders(opts.PodResources, log),
		endpoints: map[config.Resource]*endpoint{},
	}, nil
}

// Run serves until ctx ends. It fails if the configuration is bad at the start,
// or if the kernel's notifications break.
func (p *Plugin) Run(ctx context.Context) error {
	defer p.facts.close()
	file, err := watchConfig(p.opts.ConfigFile) // first watch, then read
	if err != nil {
		return err
	}
	cfg, err := LoadConfig(p.opts.ConfigFile, p.opts.ResourcePrefix)
	if errors.Is(err, fs.ErrNotExist) && p.opts.WaitForConfig {
		p.log.Warn("no configuration yet, waiting for it", "path", p.opts.ConfigFile)
		p.status.configured(err)
	} else if err != nil {
		return errors.Join(err, file.notify.Close())
	}
	p.cfg = cfg
	p.metrics.ConfigGood.Set(1)
	if p.watcher, err = kubelet.Watch(kubelet.Dirs(p.opts.KubeletDir)); err != nil {
		return errors.Join(err, file.notify.Close())
	}

	group, ctx := errgroup.WithContext(ctx)
	causes, changed := make(chan string), make(chan struct{})
	if !p.opts.Captured {
		h, err := watchHardware() // before the first look
		if err != nil {
			return errors.Join(err, file.notify.Close())
		}
		group.Go(func() error { return h.runDevices(ctx, causes) })
		group.Go(func() error { return h.runLinks(ctx, causes, p.log) })
	}
	group.Go(func() error { return p.watcher.Run(ctx) })
	group.Go(func() error { return file.run(ctx, changed) })
	group.Go(func() error {
		p.loop(ctx, causes, changed)
		return nil
	})
	return group.Wait()
}

// loop does all the work, one thing at a time, until ctx ends; then it
// withdraws every pool.
func (p *Plugin) loop(ctx context.Context, causes <-chan string, changed <-chan struct{}) {
	defer p.stop()
	p.rescan(ctx, causeStart)
	p.prune()
	ticker := time.NewTicker(p.opts.Rescan)
	defer ticker.Stop()
	for {
		// A pod that goes away tells nobody, so what it leaves behind is
		// looked for while there is something to find.
		var leaving <-chan time.Time
		var timer *time.Timer
		if p.holders.waiting() {
			timer = time.NewTimer(releaseTime)
			leaving = timer.C
		}
		select {
		case <-ctx.Done():
			return
		case cause := <-causes:
			if gather(ctx, causes, changed) && p.reload(ctx) {
				break // and has looked
			}
			p.rescan(ctx, cause)
		case <-changed:
			p.reload(ctx)
		case <-ticker.C:
			p.rescan(ctx, causePeriodic)
		case <-leaving:
			p.rescan(ctx, causePeriodic)
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// releaseTime is how often to ask whether a pod still holds a device that its
// pool has lost.
const releaseTime = 10 * time.Second

// reload takes a new configuration and looks at the host for it, or keeps the one in
// force if it is bad.
func (p *Plugin) reload(ctx context.Context) (looked bool) {
	cfg, err := LoadConfig(p.opts.ConfigFile, p.opts.ResourcePrefix)
	p.status.configured(err)
	if err != nil {
		p.metrics.Reloads.WithLabelValues("error").Inc()
		p.metrics.ConfigGood.Set(0)
		p.log.Error("new configuration is refused, the old one stays in force", "err", err)
		return false
	}
	p.metrics.Reloads.WithLabelValues("ok").Inc()
	p.metrics.ConfigGood.Set(1)
	p.log.Info("configuration changed", "pools", len(cfg.Pools))
	p.cfg = cfg
	p.announce(ctx)
	p.rescan(ctx, causeConfig)
	p.prune()
	return true
}

// rescan looks at the host and publishes what is different now.
func (p *Plugin) rescan(ctx context.Context, cause string) {
	defer p.status.busy()()
	p.metrics.Rescans.WithLabelValues(cause).Inc()
	begun := time.Now()
	devices, err := p.facts.read(pool.NeedsOf(p.cfg.Pools))
	p.metrics.ReadErrors.Set(float64(countErrors(err)))
	if err != nil {
		p.log.Warn("some devices cannot be read", "err", err)
	}
	if !errors.Is(err, errBlind) {
		p.devices = pool.Recall(devices, p.devices)
		p.seen.Store(&devices) // Recall works in place
	}
	read := time.Since(begun)
	// To ask kubelet costs as much as to look at the host. Amid events, such as those of
	// VFs in the making, it matters only if a device would come or go.
	held := p.holders.last()
	a := pool.Assign(p.devices, p.cfg.Pools, held)
	if cause != causeDevice && cause != causeLink || p.holders.waiting() || p.moves(a) {
		held = p.holders.refresh(ctx)
		a = pool.Assign(p.devices, p.cfg.Pools, held)
	}
	p.log.Debug("looked at the host", "cause", cause, "read", read.String(), "all", time.Since(begun).String())
	if cause == causeStart || cause == causeConfig {
		for r, n := range a.Overlaps(p.cfg.Pools) {
			p.log.Warn("pools overlap, the one further up in the file has the devices", "resource", r.String(), "devices", n)
		}
	}
	p.apply(ctx, a, held)
}

func countErrors(err error) int {
	if err == nil {
		return 0
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		n := 0
		for _, e := range joined.Unwrap() {
			n += countErrors(e)
		}
		return n
	}
	return 1
}

// Explain tells what would become of each device: one line a device, and one
// for each pool that did not take it.
func Explain(opts Options, log *slog.Logger) (pool.Assignment, config.Config, error) {
	cfg, err := LoadConfig(opts.ConfigFile, opts.ResourcePrefix)
	if err != nil {
		return pool.Assignment{}, cfg, err
	}
	f, err := openFacts(opts, log)
	if err != nil {
		return pool.Assignment{}, cfg, err
	}
	defer f.close()
	devices, err := f.read(pool.NeedsOf(cfg.Pools))
	if err != nil {
		log.Warn("some devices cannot be read", "err", err)
	}
	held := newHolders(opts.PodResources, log).refresh(context.Background())
	return pool.Assign(devices, cfg.Pools, held), cfg, nil
}
