// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/value"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Listed is what kubelet lists, by namespace/name.
type Listed struct{ Pods, Claims map[string]bool }

// EndOrphans unprepares, at the interval every and until ctx ends, claims that are over and
// that kubelet does not know. A kubelet that has lost its checkpoint never asks for that, and
// nobody else could have their devices again.
//
// A claim is over if all of this holds in two looks, one after the other:
//   - the API server says that it is deleted, not allocated, or reserved for nobody;
//   - kubelet answers and lists pods, but neither the claim nor its pod;
//   - the interfaces of its devices are back on the host.
//
// A claim of which any of this is not known stays. The look is repeated a third time while no
// call of kubelet's is served, for a pod may have asked for the claim meanwhile.
func (d *Driver) EndOrphans(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var before map[types.UID]bool
	for {
		over := map[types.UID]bool{}
		for _, c := range d.orphans(ctx) {
			over[c.UID] = true
			if before[c.UID] {
				d.endOrphan(ctx, c)
			}
		}
		before = over
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (d *Driver) orphans(ctx context.Context) (out []record.Claim) {
	claims, _ := d.preparer.Store.All() // those that cannot be read stay
	if len(claims) == 0 {
		return nil
	}
	listed, err := d.opts.Listed(ctx)
	if err != nil || len(listed.Pods) == 0 { // it has just started and does not know yet
		return nil
	}
	for _, c := range claims {
		if d.isOrphan(ctx, c, listed) {
			out = append(out, c)
		}
	}
	return out
}

func (d *Driver) isOrphan(ctx context.Context, c record.Claim, listed Listed) bool {
	if listed.Claims[c.Namespace+"/"+c.Name] || listed.Pods[c.Namespace+"/"+c.Pod.Name] {
		return false
	}
	return d.over(ctx, c) && d.back(c)
}

// over reports whether the API server says that nobody has the claim any more. A consumer
// other than the record's pod has come since, and is about to be given it.
func (d *Driver) over(ctx context.Context, c record.Claim) bool {
	now, err := d.opts.Client.ResourceV1().ResourceClaims(c.Namespace).Get(ctx, c.Name, metav1.GetOptions{})
	if err != nil {
		return apierrors.IsNotFound(err)
	}
	return now.UID != c.UID || now.Status.Allocation == nil || len(now.Status.ReservedFor) == 0
}

// back reports whether the interfaces of a claim's devices are not in a pod. Devices of
// drivers for user space have none, and those that are gone none any more; of a device that
// cannot be read it is not known.
func (d *Driver) back(c record.Claim) bool {
	for _, id := range c.Devices() {
		below := filepath.Join(d.opts.SysfsRoot, "sys/bus/auxiliary/devices", id)
		if a, err := libsriov.ParseAddress(id); err == nil {
			driver, err := d.opts.Prepare.Drivers.Driver(a)
			if errors.Is(err, libsriov.ErrNoDevice) || err == nil && value.DriverKindOf(driver) != value.Kernel {
				continue
			}
			if err != nil {
				return false
			}
			below = filepath.Join(d.opts.SysfsRoot, "sys/bus/pci/devices", a.String())
		} else if _, err := os.Stat(below); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		direct, _ := filepath.Glob(filepath.Join(below, "net/*")) // the patterns are good
		virtio, _ := filepath.Glob(filepath.Join(below, "virtio*/net/*"))
		if len(direct)+len(virtio) == 0 {
			return false
		}
	}
	return true
}

func (d *Driver) endOrphan(ctx context.Context, c record.Claim) {
	unlock, err := d.lock()
	if err != nil {
		d.log.Error("a claim is over, and kubelet does not know it", "claim", c.Namespace+"/"+c.Name, "err", err)
		return
	}
	defer unlock()
	now, err := d.preparer.Store.Load(c.UID)
	if err != nil || now == nil || now.Pod.UID != c.Pod.UID {
		return // ended, or another pod's
	}
	listed, err := d.opts.Listed(ctx)
	if err != nil || len(listed.Pods) == 0 || !d.isOrphan(ctx, *now, listed) {
		return
	}
	c = *now
	if err := errors.Join(d.preparer.RemoveMetadata(c), d.preparer.Unprepare(ctx, c.UID)); err != nil {
		d.log.Error("a claim is over, and kubelet does not know it", "claim", c.Namespace+"/"+c.Name, "err", err)
		return
	}
	d.log.Warn("a claim was over, and kubelet did not know it: its devices are free", "claim", c.Namespace+"/"+c.Name, "pod", c.Pod.Name)
}
