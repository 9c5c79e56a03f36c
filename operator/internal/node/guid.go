// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/value"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

const guidsFile = "infiniband/guids" // below the directory of state

// GUIDs reads the node's GUID pool; nil if there is none. A broken one is no error
// here: it concerns InfiniBand PFs alone, and the planner tells it for each.
func (f Files) GUIDs() *plan.GUIDPool {
	name := filepath.Join(f.stateDir(), guidsFile)
	b, err := os.ReadFile(filepath.Join(f.Root, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var pool *plan.GUIDPool
	if err == nil {
		pool, err = plan.ParseGUIDPool(b)
	}
	if err != nil {
		return plan.BrokenGUIDPool(fmt.Errorf("%s: %w", name, err))
	}
	return pool
}

// vfStates reads what a PF says of its VFs, by VF index.
func vfStates(pfIndex int) (map[int]vfstate.State, error) {
	c, err := link.Open(nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.VFStates(pfIndex)
}

// setGUID gives a VF its node and port GUID, through its PF, and takes the kernel's
// driver off it, which reads them only when it is bound.
func (m *Machine) setGUID(ctx context.Context, pf, vf libsriov.Address, s plan.Step) error {
	guid, err := chooseGUID(s.GUID)
	if err != nil {
		return err
	}
	err = withNetdev(pf, func(c *link.Conn, l link.Link) error {
		return c.SetVF(l.Index, s.VF, vfstate.State{NodeGUID: &guid, PortGUID: &guid})
	})
	if err != nil {
		return err // names attribute, value and VF
	}
	driver, err := m.Host.Driver(vf)
	if err != nil || !plan.DriverFits(v1.DeviceTypeNetDevice, driver) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	return m.Host.Unbind(ctx, vf)
}

// chooseGUID reads a GUID of the planner's; "" makes a random one, which says of itself
// that it is administered locally and not a group's.
func chooseGUID(s string) (vfstate.GUID, error) {
	if s != "" {
		return value.ParseGUID(s)
	}
	b := make([]byte, 8)
	if _, err := rand.Read(b); err != nil {
		return 0, err
	}
	b[0] = b[0]&^0x01 | 0x02
	return vfstate.GUID(binary.BigEndian.Uint64(b)), nil
}
