// SPDX-License-Identifier: Apache-2.0

// Package driver is the DRA driver of a node: it publishes the node's resource pools as
// ResourceSlices, reports their health, prepares claims for kubelet and writes what the
// network of a pod became into the claim's status. Hardware and configuration come from
// outside, by [Driver.Update].
package driver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/dra/offer"
	"github.com/sriovkit/sriovkit/device-plugin/dra/prepare"
	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/dynamic-resource-allocation/api/metadata/v1beta1"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
)

// Options say where everything is. All are mandatory but for those that say otherwise.
type Options struct {
	Name   string // of the driver, a DNS subdomain
	Node   string
	PodUID types.UID // of the driver's pod; "" forgoes two instances side by side in an update
	Client kubernetes.Interface

	PluginDir      string // for the driver's socket, records and metadata files
	RegistryDir    string // where kubelet looks for plugins
	AttachmentsDir string // where the meta plugin says what became of a pod's networks

	SysfsRoot string // holds the directory sys
	// Listed asks kubelet for its pods and their claims.
	Listed func(ctx context.Context) (Listed, error)

	EvictOnNoCarrier bool
	// Facts reads what slices say of devices beside the pools, once for each look at the host.
	// With nil they say nothing more.
	Facts *Facts
	// Prepare has all but Driver, Node, Store, MetadataDir, Lookup and Takes, which the
	// driver sets.
	Prepare prepare.Preparer
}

// Driver serves kubelet. It publishes nothing before the first Update and before WatchMode
// has read the Node.
type Driver struct {
	opts     Options
	log      *slog.Logger
	helper   *kubeletplugin.Helper
	preparer prepare.Preparer

	slices *publisher

	onDetach func() // see OnDetach
	// unreadable is what WatchAttachments has said of records, so that it is said once.
	unreadable string
	failed     chan error // errors after which the process has to end

	calls sync.Mutex // one of Prepare, Unprepare and Restore at a time, see lock
	// left are claims that could not be restored yet; nil before the first try. With calls.
	left map[types.UID]record.Claim

	restoring  sync.Mutex
	background sync.WaitGroup
	stop       context.CancelFunc // of what Start began

	mu          sync.Mutex
	mode        mode
	modeChanged chan struct{} // closed when mode changes
	nodeUID     types.UID     // with mode
	// unregistered is why kubelet does not know the driver; nil once it does.
	unregistered error
	pools        []offer.Pool
	byID         map[string]place
	health       []offer.Health
	problems     map[string]bool // of the last look, for people
	changed      chan struct{}   // closed when health changes
	noTaints     bool
	pending      bool // some claims could not be restored yet
}

type place struct {
	pool   config.Pool
	member pool.Member
}

// New makes a driver.
func New(o Options, log *slog.Logger) *Driver {
	d := &Driver{
		opts: o, log: log, changed: make(chan struct{}), modeChanged: make(chan struct{}), failed: make(chan error, 1),
		pending:      true, // until the first look
		unregistered: errors.New("not registered with kubelet yet"),
	}
	d.slices = &publisher{
		driver: o.Name, node: o.Node, client: o.Client, log: log, failed: d.slicesFailed, changed: make(chan struct{}, 1),
	}
	d.preparer = o.Prepare
	d.preparer.Driver, d.preparer.Node = o.Name, o.Node
	d.preparer.Store = record.Store{Dir: filepath.Join(o.PluginDir, "claims")}
	d.preparer.MetadataDir = o.PluginDir
	d.preparer.Lookup = d.lookup
	d.preparer.Takes = d.takesClaims
	return d
}

// Claims lists the devices that claims have, for inventory.Options.
func (d *Driver) Claims() (map[string]pool.Holder, error) {
	held, err := d.Holders()
	if err != nil {
		return nil, err
	}
	out := map[string]pool.Holder{}
	for _, h := range held {
		out[h.Device] = pool.Holder{Resource: h.Resource, Claim: h.Claim}
	}
	return out, nil
}

// Holders lists the devices that claims have with the pods that they are for.
func (d *Driver) Holders() (out []kubelet.Holder, err error) {
	claims, err := d.preparer.Store.All()
	for _, c := range claims {
		for _, r := range c.Requests {
			for _, device := range r.Devices {
				if !r.AdminAccess {
					out = append(out, kubelet.Holder{
						Device: device.ID, Resource: device.Resource, Driver: d.opts.Name,
						Claim: c.Namespace + "/" + c.Name, Namespace: c.Namespace, Pod: c.Pod.Name,
					})
				}
			}
		}
	}
	return out, err
}

// Start registers with kubelet. Claims of pods that run already are made whole by the
// first Update, which should come before.
func (d *Driver) Start(ctx context.Context) error {
	for _, dir := range []string{d.opts.PluginDir, d.opts.RegistryDir} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return err
		}
	}
	helper, err := kubeletplugin.Start(ctx, d,
		kubeletplugin.DriverName(d.opts.Name), kubeletplugin.NodeName(d.opts.Node), kubeletplugin.KubeClient(d.opts.Client),
		kubeletplugin.PluginDataDirectoryPath(d.opts.PluginDir), kubeletplugin.RegistrarDirectoryPath(d.opts.RegistryDir),
		kubeletplugin.RollingUpdate(instance(d.opts.PodUID, d.opts.PluginDir)),
		kubeletplugin.Serialize(false), // by lock, which Restore needs, too
		kubeletplugin.GRPCInterceptor(d.heed),
		kubeletplugin.CDIDirectory(d.preparer.CDIDir),
		kubeletplugin.MetadataFileOps(kubeletplugin.MetadataFileOperations{WriteFile: allocation.WriteFile, RemoveAll: d.preparer.RemoveAll}),
		kubeletplugin.EnableDeviceMetadata(true, []schema.GroupVersion{v1beta1.SchemeGroupVersion}),
	)
	if err != nil {
		return fmt.Errorf("register with kubelet: %w", err)
	}
	ctx, d.stop = context.WithCancel(ctx)
	d.background.Go(func() {
		if err := d.slices.run(ctx); err != nil {
			d.fail(err)
		}
	})
	d.mu.Lock()
	d.helper = helper
	d.mu.Unlock()
	d.publish()
	return nil
}

// maxSocket is how long the path of a socket may be, bytes (sun_path of unix(7), less its
// end).
const maxSocket = 107

// instance is the part of the socket's name in which two instances differ: the pod's UID, or a
// part of its hash where the path of the socket would be too long with that, as in
// /var/snap/microk8s/common/var/lib/kubelet.
func instance(uid types.UID, dir string) types.UID {
	if uid == "" || len(filepath.Join(dir, "dra-"+string(uid)+".sock")) <= maxSocket {
		return uid
	}
	sum := sha256.Sum256([]byte(uid))
	return types.UID(hex.EncodeToString(sum[:4]))
}

// Stop ends what Start began. Slices stay: pods run on without the driver.
func (d *Driver) Stop() {
	d.stop()
	d.helper.Stop()
	d.background.Wait()
}

// Update takes the pools as they are now and publishes what is different.
func (d *Driver) Update(ctx context.Context, pools []offer.Pool) {
	d.mu.Lock()
	d.pools, d.byID = pools, map[string]place{}
	for _, p := range pools {
		for _, m := range p.Members {
			d.byID[m.ID] = place{p.Pool, m}
		}
	}
	pending, started := d.pending, d.helper != nil
	d.mu.Unlock()
	switch {
	case !pending:
	case started:
		d.restoreAside(ctx)
	default:
		d.restore(ctx)
	}
	d.publish()
}

// restoreAside restores without holding up the pools: a call that prepares a claim waits for
// them, and restoring for the call.
func (d *Driver) restoreAside(ctx context.Context) {
	if !d.restoring.TryLock() {
		return // the next look comes back to what is left
	}
	d.background.Go(func() {
		defer d.restoring.Unlock()
		d.restore(ctx)
	})
}

// restore makes claims whole that the driver's files or drivers are missing of: all of them
// the first time, then those that could not be restored.
func (d *Driver) restore(ctx context.Context) {
	unlock, err := d.lock()
	if err != nil {
		d.log.Error("claims of running pods are not whole", "err", err)
		return
	}
	defer unlock()
	left, err := d.preparer.Restore(ctx, d.left)
	if err != nil {
		d.log.Error("claims of running pods are not whole", "err", err)
	}
	for uid, c := range left {
		if _, said := d.left[uid]; !said {
			d.log.Warn("a claim waits for its device", "claim", c.Namespace+"/"+c.Name, "pod", c.Pod.Name)
		}
	}
	d.left = left
	d.mu.Lock()
	d.pending = len(left) > 0 || err != nil && left == nil
	d.mu.Unlock()
}

// publish hands the pools to the controller of slices: all of them in modeServe, none in
// modeLeaving and modeRest; in modeUnknown slices stay as they are.
func (d *Driver) publish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.helper == nil || d.byID == nil {
		return
	}
	o := offer.Options{
		Driver: d.opts.Name, Node: d.opts.Node, NoTaints: d.noTaints, EvictOnNoCarrier: d.opts.EvictOnNoCarrier,
	}
	o.AsGiven = d.asGiven()
	if d.opts.Facts != nil {
		o.Facts = d.opts.Facts.Look()
	}
	out := offer.Publish(d.pools, o)
	d.sayProblems(out.Problems)
	if !slices.Equal(d.health, out.Health) {
		d.health = out.Health
		close(d.changed)
		d.changed = make(chan struct{})
	}
	switch d.mode {
	case modeUnknown:
		return
	case modeLeaving, modeRest:
		out.Resources = offer.Publish(nil, o).Resources
	case modeServe:
	}
	d.slices.want(d.nodeUID, out.Resources)
}

// sayProblems logs what cannot be published, once while it stays so: there may be one for each
// device in each look at the host. It is called with mu held.
func (d *Driver) sayProblems(problems []error) {
	now := make(map[string]bool, len(problems))
	for _, err := range problems {
		text := err.Error()
		if now[text] = true; !d.problems[text] {
			d.log.Warn("not published", "err", text)
		}
	}
	d.problems = now
}

// asGiven returns a function that reports, by the records of claims, whether a device is there
// and has the driver that its claim got. While the records cannot be read it reports true, for
// pods are evicted by it.
func (d *Driver) asGiven() func(*pool.Member) bool {
	claims, err := d.preparer.Store.All()
	return func(m *pool.Member) bool {
		for _, c := range claims {
			for _, r := range c.Requests {
				for _, given := range r.Devices {
					if given.ID == m.ID && !r.AdminAccess {
						return d.serves(c, given, m)
					}
				}
			}
		}
		return err != nil
	}
}

// serves reports whether a device of a claim is as the claim's pod got it.
func (d *Driver) serves(c record.Claim, given record.Device, m *pool.Member) bool {
	switch {
	case !c.Prepared: // it is being prepared or given back, and no container runs
		return true
	case m.Gone: // after a boot VFs are made anew, which takes its time
		return c.BootID != d.preparer.BootID
	}
	return given.Driver == "" || given.Driver == m.Driver // "": on the auxiliary bus
}

func (d *Driver) lookup(id string) (config.Pool, pool.Member, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.byID[id]
	return p.pool, p.member, ok && !p.member.Gone
}
