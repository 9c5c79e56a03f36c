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

// GUIDs reads the node's GUID pool; nil if there is none. A pool that cannot be read is
// not an error here but of each InfiniBand PF that needs it: see plan.BrokenGUIDPool.
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

// vfStates reads the administrative state of a PF's VFs, by VF index.
func vfStates(pfIndex int) (map[int]vfstate.State, error) {
	c, err := link.Open(nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.VFStates(pfIndex)
}

// setGUID sets the node and port GUID of a VF through its PF and unbinds the VF's kernel
// driver, which reads them only while it is being bound. A later step binds it.
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

// chooseGUID parses the planner's GUID, or for "" generates a random one with the bits of a
// locally administered unicast address.
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
