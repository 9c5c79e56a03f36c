// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/sriovkit/sriovkit/device-plugin/dra/offer"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/devlink"
	"k8s.io/dynamic-resource-allocation/deviceattribute"
)

// Facts reads what is published of devices beside what pools ask for.
type Facts struct {
	Host *libsriov.Host
	Root string // holds the directory sys
	// EswitchMode reads a PF's mode; nil knows none.
	EswitchMode func(pf libsriov.Address) (string, error)

	mu    sync.Mutex
	roots map[string]string // PCI address -> root complex
}

// Look returns a reader of devices' facts for one look at the host: what VFs share with
// their PF is read once a look, where a device sits only once. What cannot be read is
// left out.
func (f *Facts) Look() func(d pool.Device) offer.Facts {
	parents := map[libsriov.Address]offer.Facts{}
	return func(d pool.Device) offer.Facts {
		var out offer.Facts
		if d.PF != nil {
			known, ok := parents[*d.PF]
			if !ok {
				known = f.parent(*d.PF)
				parents[*d.PF] = known
			}
			out = known
		}
		out.PCIeRoot = f.root(d.Address.String())
		if len(d.Netdevs) > 0 {
			out.MTU, _ = strconv.Atoi(f.attribute(d.Netdevs[0], "mtu"))
		}
		return out
	}
}

// parent reads what the VFs of a PF have in common.
func (f *Facts) parent(a libsriov.Address) (out offer.Facts) {
	pf, err := f.Host.Function(a)
	if err != nil {
		return out
	}
	out.PFDevice = pf.Device.String()
	if f.EswitchMode != nil {
		out.EswitchMode, _ = f.EswitchMode(a)
	}
	if uplink, err := f.Host.Uplink(pf); err == nil {
		out.Fabric = f.attribute(uplink, "phys_switch_id")
		if speed, ok, err := f.Host.LinkSpeed(uplink); err == nil && ok {
			out.SpeedMbps = speed
		}
	}
	return out
}

// attribute reads /sys/class/net/NETDEV/NAME; "" if there is none.
func (f *Facts) attribute(netdev, name string) string {
	data, err := os.ReadFile(filepath.Join(f.Root, "sys/class/net", netdev, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func (f *Facts) root(address string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if root, ok := f.roots[address]; ok {
		return root
	}
	a, err := deviceattribute.GetPCIeRootAttributeByPCIBusID(address, deviceattribute.WithFSFromRoot(filepath.Join(f.Root, "sys")))
	if err != nil || a.Value.StringValue == nil {
		return ""
	}
	if f.roots == nil {
		f.roots = map[string]string{}
	}
	f.roots[address] = *a.Value.StringValue
	return *a.Value.StringValue
}

// DevlinkMode reads the mode of a PF's embedded switch. A PF without one works as one in
// legacy mode does.
func DevlinkMode(c *devlink.Conn) func(pf libsriov.Address) (string, error) {
	return func(pf libsriov.Address) (string, error) {
		mode, err := c.Mode(devlink.PCI(pf))
		if errors.Is(err, devlink.ErrNotSupported) {
			return devlink.Legacy.String(), nil
		}
		if err != nil {
			return "", err
		}
		return mode.String(), nil
	}
}
