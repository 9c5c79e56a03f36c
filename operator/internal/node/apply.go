// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/devlink"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/rdma"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// writeLimit for creating or removing all VFs of a PF, and for a driver change:
// firmware of large NICs takes more than a minute.
const writeLimit = 3 * time.Minute

// Machine carries out work on a host.
type Machine struct {
	Host  *libsriov.Host
	Files Files
}

// Apply carries out the work of one PF. The steps for the PF itself end with the first
// error, because later steps depend on earlier ones. VFs are configured concurrently and
// independently; their errors are joined.
func (m *Machine) Apply(ctx context.Context, w plan.Work, pf *v1.InterfaceExt, before plan.Owned) error {
	if w.PF == "" {
		return m.applyNode(w)
	}
	addr, err := libsriov.ParseAddress(w.PF)
	if err != nil {
		return err
	}
	if err := m.recoverBare(ctx, addr); err != nil {
		return fmt.Errorf("recover from an interrupted creation of VFs on %s: %w", w.PF, err)
	}
	perVF := map[int][]plan.Step{}
	disown := false
	for _, s := range w.Steps {
		switch s.Op {
		case plan.OpGUID, plan.OpMAC, plan.OpBind, plan.OpVDPA, plan.OpVFMTU:
			perVF[s.VF] = append(perVF[s.VF], s)
		case plan.OpDisown:
			disown = true
		default:
			done := timed(ctx, string(s.Op), w.PF)
			if err := m.applyPF(ctx, addr, s, pf, before, bare(w.Steps)); err != nil {
				return fmt.Errorf("%s of %s: %w", s.Op, w.PF, err)
			}
			done()
		}
	}
	done := timed(ctx, "bring up VFs", w.PF)
	if err := m.applyVFs(ctx, addr, perVF, pf); err != nil {
		return err
	}
	done()
	if disown {
		return m.Files.Disown(ctx, addr)
	}
	return nil
}

// timed starts a clock for a step; done logs how long the step took.
func timed(ctx context.Context, step, pf string) (done func()) {
	begun := time.Now()
	return func() {
		logf.FromContext(ctx).V(1).Info("done", "pci", pf, "step", step, "took", time.Since(begun).String())
	}
}

func (m *Machine) applyNode(w plan.Work) error {
	var errs []error
	for _, s := range w.Steps {
		var err error
		if s.Op == plan.OpRdmaOption {
			err = m.Files.SetRdmaOption(s.Mode)
		} else {
			err = setRdmaMode(s.Mode)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", s.Op, s.Mode, err))
		}
	}
	return errors.Join(errs...)
}

func setRdmaMode(mode string) error {
	c, err := rdma.Open(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.SetMode(rdma.Mode(mode))
	if errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("the kernel refuses while network namespaces exist. The module's option is written for the next boot; "+
			"where ib_core is built in or loaded by an initramfs, boot with ib_core.%s: %w", rdmaOption(mode), err)
	}
	return err
}

func (m *Machine) applyPF(ctx context.Context, addr libsriov.Address, s plan.Step, pf *v1.InterfaceExt, before plan.Owned, bare bool) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	switch s.Op {
	case plan.OpOwn:
		o := plan.Owned{Interface: s.Want, OriginalMTU: before.OriginalMTU}
		if o.OriginalMTU == 0 {
			o.OriginalMTU = pf.Mtu
		}
		if before.EswitchMode == v1.EswitchSwitchdev && before.Name != "" {
			o.Name = before.Name // the name that its udev rules keep
		}
		return m.Files.Own(ctx, addr, o)
	case plan.OpRemove:
		return m.Host.SetNumVFs(ctx, addr, 0)
	case plan.OpCreate:
		if bare {
			return m.createBare(ctx, addr, s.Num)
		}
		return m.Host.SetNumVFs(ctx, addr, s.Num)
	case plan.OpLinkUp:
		return setLink(addr, link.Update{Up: new(true)})
	case plan.OpPFMTU:
		return setLink(addr, link.Update{MTU: s.Num})
	case plan.OpOffload:
		return withNetdev(addr, func(_ *link.Conn, l link.Link) error { return setOffload(l.Name) })
	case plan.OpEswitch:
		c, err := devlink.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		mode, err := devlink.ParseMode(s.Mode)
		if err != nil {
			return err
		}
		return c.SetMode(devlink.PCI(addr), mode)
	}
	return fmt.Errorf("no such step: %q", s.Op)
}

func setLink(device libsriov.Address, u link.Update) error {
	return withNetdev(device, func(c *link.Conn, l link.Link) error { return c.Set(l.Index, u) })
}

// withNetdev calls do with the netdev of a device, which is found by its parent device,
// not by a name that may change.
func withNetdev(device libsriov.Address, do func(*link.Conn, link.Link) error) error {
	c, err := link.Open(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.ByParent(device)
	if err != nil {
		return err
	}
	return do(c, l)
}
