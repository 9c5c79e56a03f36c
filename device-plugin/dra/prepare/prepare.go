// SPDX-License-Identifier: Apache-2.0

// Package prepare makes the devices of a claim ready for the claim's pod, and takes
// that back: the calls NodePrepareResources and NodeUnprepareResources of kubelet's DRA
// plugin API (k8s.io/kubelet/pkg/apis/dra/v1).
//
// A record on disk comes before every change and goes after it was taken back, so both
// calls can be repeated, by another process too, whatever moment the last one was ended
// at. The lists of kubelet and of the records are asked before a device is given out:
// this is the last place where double use is noticed.
package prepare

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
)

// Preparer prepares claims on one node. Calls must not overlap, across processes
// neither: the helper library serialises them.
type Preparer struct {
	Driver string // name of the DRA driver
	Node   string // name of the node, which names the pool of its devices
	Store  record.Store
	Host   allocation.Host
	// BootID is this boot's /proc/sys/kernel/random/boot_id.
	BootID string

	CDIDir        string
	DeviceInfoDir string
	MetadataDir   string // where the helper library keeps metadata files

	// BindDrivers allows claims to have their VFs bound to another driver.
	BindDrivers bool
	// Drivers binds functions; a *libsriov.Host.
	Drivers Drivers

	// Lookup finds a device of the node's pools by its ID.
	Lookup func(id string) (config.Pool, pool.Member, bool)
	// Takes returns why no further claims are prepared at present; nil means that they are.
	Takes func() error
	// Settled waits until Lookup and Give know what was withdrawn by now, and tells if that
	// takes too long; nil waits for nothing.
	Settled func(ctx context.Context) error
	// Give reserves devices for claims in the node's inventory, see inventory.Give; Return
	// takes that back.
	Give   func(r config.Resource, ids []string) (undo func(), err error)
	Return func(ids []string)
	// Holders asks kubelet which devices pods hold through its device manager: the
	// resource by device ID. An error means that it is not known, or with ErrUncertain not
	// of all pods.
	Holders func(ctx context.Context) (map[string]config.Resource, error)

	// step is called between any two changes; tests end the call there.
	step func(name string) error
}

// Drivers binds PCI functions to drivers. Tests stand in for a kernel that refuses.
type Drivers interface {
	Driver(a libsriov.Address) (string, error)
	BindDriver(ctx context.Context, a libsriov.Address, driver string) error
	ResetDriver(ctx context.Context, a libsriov.Address) error
}

// Errors that callers may look for.
var (
	// ErrInUse: another claim or a pod of the device plugin has the device.
	ErrInUse = errors.New("device is in use")
	// ErrUncertain: pods may hold more devices than is known.
	ErrUncertain = errors.New("more may be in use")
	// ErrNoDevice: the node does not offer the device any more.
	ErrNoDevice = errors.New("the node does not offer this device")
)

// Prepare makes a claim ready, or changes nothing.
func (p *Preparer) Prepare(ctx context.Context, claim *resourceapi.ResourceClaim) kubeletplugin.PrepareResult {
	devices, err := p.prepare(ctx, claim)
	if err != nil {
		return kubeletplugin.PrepareResult{Err: fmt.Errorf("claim %s/%s: %w", claim.Namespace, claim.Name, err)}
	}
	return kubeletplugin.PrepareResult{Devices: devices}
}

func (p *Preparer) prepare(ctx context.Context, claim *resourceapi.ResourceClaim) ([]kubeletplugin.Device, error) {
	want, drivers, err := p.want(claim)
	if err != nil {
		return nil, err
	}
	before, err := p.Store.Load(want.UID)
	if err != nil {
		return nil, err
	}
	if before != nil && before.Prepared && before.Same(want) {
		if before.Pod != want.Pod { // the claim outlives its pods
			before.Pod = want.Pod
			if err := p.Store.Save(*before); err != nil {
				return nil, err
			}
		}
		if err := p.restore(ctx, *before); err != nil {
			return nil, err
		}
		return p.Answer(*before), nil
	}
	if before != nil { // cut short, or allocated anew since
		if err := p.undo(ctx, *before); err != nil {
			return nil, err
		}
	}
	if err := p.free(ctx, want); err != nil {
		return nil, err
	}
	if err := p.give(want); err != nil {
		return nil, err
	}
	if err := p.make(ctx, &want, drivers); err != nil {
		if errors.Is(err, errKilled) {
			return nil, err
		}
		// The call's own time may be what ran out.
		return nil, errors.Join(err, p.undo(context.WithoutCancel(ctx), want))
	}
	return p.Answer(want), nil
}

// errKilled stands for the end of the process in tests.
var errKilled = errors.New("killed")

func (p *Preparer) at(name string) error {
	if p.step == nil {
		return nil
	}
	return p.step(name)
}

// free makes sure that nobody has the devices, and that they are still to be had.
func (p *Preparer) free(ctx context.Context, want record.Claim) error {
	if p.Takes != nil {
		if err := p.Takes(); err != nil {
			return err
		}
	}
	if p.Settled != nil {
		if err := p.Settled(ctx); err != nil {
			return err
		}
	}
	others, err := p.Store.All()
	if err != nil {
		return err
	}
	held, err := p.Holders(ctx)
	if err != nil {
		return fmt.Errorf("it is not known which devices pods hold: %w", err)
	}
	for _, r := range want.Requests {
		if r.AdminAccess {
			continue
		}
		for _, d := range r.Devices {
			if resource, ok := held[d.ID]; ok {
				return fmt.Errorf("request %s: %s: %w: a pod has it as %s through kubelet's device manager", r.Name, d.ID, ErrInUse, resource)
			}
			i := slices.IndexFunc(others, func(c record.Claim) bool { return c.UID != want.UID && c.Holds(d.ID) })
			if i >= 0 {
				o := others[i]
				return fmt.Errorf("request %s: %s: %w: claim %s/%s has it for pod %s", r.Name, d.ID, ErrInUse, o.Namespace, o.Name, o.Pod.Name)
			}
		}
	}
	return nil
}

// give has the inventory keep the devices where they are, all or none.
func (p *Preparer) give(want record.Claim) error {
	var undo []func()
	for _, r := range want.Requests {
		if r.AdminAccess {
			continue
		}
		for _, d := range r.Devices {
			back, err := p.Give(d.Resource, []string{d.ID})
			if err != nil {
				for _, u := range undo {
					u()
				}
				return fmt.Errorf("request %s: %w", r.Name, err)
			}
			undo = append(undo, back)
		}
	}
	return nil
}

// make carries out what was planned. drivers names the driver asked for by device ID.
func (p *Preparer) make(ctx context.Context, want *record.Claim, drivers map[string]string) error {
	if err := p.planDrivers(want, drivers); err != nil {
		return err
	}
	if err := p.Store.Save(*want); err != nil {
		return err
	}
	if err := p.at("recorded"); err != nil {
		return err
	}
	if err := p.bind(ctx, *want); err != nil {
		return err
	}
	if err := p.writeFiles(*want); err != nil {
		return err
	}
	if err := p.noteDrivers(want); err != nil {
		return err
	}
	want.Prepared = true
	if err := p.Store.Save(*want); err != nil {
		return err
	}
	return p.at("prepared")
}

// Unprepare takes back what was done for a claim. A claim that nothing is known of is
// no error.
func (p *Preparer) Unprepare(ctx context.Context, uid types.UID) error {
	c, err := p.Store.Load(uid)
	if err != nil {
		return err
	}
	if c == nil { // it ended before there was one, or an administrator removed what was unreadable
		return errors.Join(remove([]string{p.specPath(record.Claim{UID: uid})}), p.removeParts(uid))
	}
	if err := p.undo(ctx, *c); err != nil {
		return fmt.Errorf("claim %s/%s: %w", c.Namespace, c.Name, err)
	}
	return nil
}

// undo leaves everything as it was before the claim, the record last.
func (p *Preparer) undo(ctx context.Context, c record.Claim) error {
	if c.Prepared { // it does not count as prepared before the first change
		c.Prepared = false
		if err := p.Store.Save(c); err != nil {
			return err
		}
		if err := p.at("no longer prepared"); err != nil {
			return err
		}
	}
	// The device manager may have given devices away while this driver was not there: what
	// pods have through it is theirs. A checkpoint of its that cannot be read keeps no pod
	// from ending: the device plugin reads the records, too.
	held, err := p.Holders(ctx)
	if err != nil && !errors.Is(err, ErrUncertain) {
		return fmt.Errorf("it is not known which devices pods hold: %w", err)
	}
	mine := without(c, held)
	if err := p.removeFiles(mine); err != nil {
		return err
	}
	if err := p.at("files removed"); err != nil {
		return err
	}
	if err := p.unbind(ctx, mine); err != nil {
		return err
	}
	if err := p.Store.Remove(c.UID); err != nil {
		return err
	}
	for _, r := range c.Requests {
		for _, d := range r.Devices {
			if !r.AdminAccess {
				p.Return([]string{d.ID})
			}
		}
	}
	return p.at("record removed")
}

// without is a claim without the devices that pods have through the device manager.
func without(c record.Claim, held map[string]config.Resource) record.Claim {
	c.Requests = slices.Clone(c.Requests)
	for i := range c.Requests {
		c.Requests[i].Devices = slices.DeleteFunc(slices.Clone(c.Requests[i].Devices), func(d record.Device) bool {
			_, taken := held[d.ID]
			return taken
		})
	}
	return c
}

// Restore makes what is missing of prepared claims after a restart or a reboot, when
// kubelet does not call Prepare again for pods that run on. It returns those that could not
// be, because the node does not offer their devices yet or for another reason, which is in
// the error too: call it again with them when the hardware has changed. of limits it to
// these; nil is all. left is nil if it is not known which there are.
func (p *Preparer) Restore(ctx context.Context, of map[types.UID]record.Claim) (left map[types.UID]record.Claim, err error) {
	claims, err := p.Store.All()
	if err != nil && of == nil {
		return nil, errors.Join(err, p.restoreEach(ctx, claims, map[types.UID]record.Claim{}))
	}
	errs := []error{err}
	left = map[types.UID]record.Claim{}
	claims = slices.DeleteFunc(claims, func(c record.Claim) bool {
		_, asked := of[c.UID]
		return of != nil && !asked
	})
	errs = append(errs, p.restoreEach(ctx, claims, left))
	return left, errors.Join(errs...)
}

func (p *Preparer) restoreEach(ctx context.Context, claims []record.Claim, left map[types.UID]record.Claim) error {
	var errs []error
	for _, c := range claims {
		if !c.Prepared {
			continue // kubelet asks again, for one or the other
		}
		err := p.restore(ctx, c)
		if err == nil {
			err = p.restoreMetadata(c)
		}
		if err != nil {
			left[c.UID] = c
		}
		if err != nil && !errors.Is(err, ErrNoDevice) {
			errs = append(errs, fmt.Errorf("claim %s/%s: %w", c.Namespace, c.Name, err))
		}
	}
	return errors.Join(errs...)
}

// stillOurs fails with ErrInUse if a pod has one of a claim's devices through kubelet's
// device manager.
func (p *Preparer) stillOurs(ctx context.Context, c record.Claim) error {
	held, err := p.Holders(ctx)
	if err != nil {
		return fmt.Errorf("it is not known which devices pods hold: %w", err)
	}
	for _, id := range c.Devices() {
		if resource, ok := held[id]; ok {
			return fmt.Errorf("%s: %w: a pod has it as %s through kubelet's device manager", id, ErrInUse, resource)
		}
	}
	return nil
}

func (p *Preparer) restore(ctx context.Context, c record.Claim) error {
	for _, r := range c.Requests {
		for _, d := range r.Devices {
			if _, _, ok := p.Lookup(d.ID); !ok && !r.AdminAccess {
				return fmt.Errorf("request %s: %s: %w", r.Name, d.ID, ErrNoDevice)
			}
		}
	}
	if c.BootID != p.BootID {
		// While the kernel bound its own drivers, something else may have taken the devices.
		if err := p.stillOurs(ctx, c); err != nil {
			return err
		}
		if err := p.bind(ctx, c); err != nil {
			return err
		}
		c.BootID = p.BootID
		if err := p.Store.Save(c); err != nil {
			return err
		}
	}
	return p.writeFiles(c)
}
