// SPDX-License-Identifier: Apache-2.0

// Package allocation composes what a container gets with its devices:
// environment variables, device nodes, device-info files for the CNI plugins
// (k8snetworkplumbingwg device-info specification 1.1.0) and CDI specifications
// (https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md).
//
// Device nodes are looked up at the moment they are asked for: a driver that
// was rebound since the last look at the host has other ones.
package allocation

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/value"
)

// ErrNoNode: a container could not use the device, since a device node that the
// pool promises does not exist.
var ErrNoNode = errors.New("device node is missing")

// Node is a device node; containers may read and write it.
type Node = libsriov.DeviceNode

// Nodes on every host, needed by all users of VFIO, RDMA and vhost-net.
const (
	vfioControl = "/dev/vfio/vfio"
	rdmaCM      = "/dev/infiniband/rdma_cm"
	vhostNet    = "/dev/vhost-net"
	tun         = "/dev/net/tun"
)

// Host is where device nodes are looked up.
type Host struct {
	*libsriov.Host
	// DevRoot holds the directory dev: "/", or where the host's is mounted.
	DevRoot string
	// RDMA remembers the nodes of RDMA devices between lookups; nil remembers nothing.
	RDMA *RDMACache
}

// RDMACache is the last table of RDMA nodes that was read.
type RDMACache = atomic.Pointer[libsriov.RDMATable]

// lookup finds the character devices of devices: read now, or for many devices at once from
// tables that were read together.
type lookup struct {
	Host
	rdmaNodes   func(devices []string) ([]libsriov.RDMANode, error)
	rdmaDevices func(m pool.Member) ([]string, error)
}

// now looks at the host anew for each device. Of RDMA devices only the nodes that were
// known are read, as long as they are right.
func (h Host) now() lookup {
	return lookup{h, func(devices []string) ([]libsriov.RDMANode, error) {
		if h.RDMA == nil {
			h.RDMA = &RDMACache{}
		}
		var known libsriov.RDMATable
		if t := h.RDMA.Load(); t != nil {
			known = *t
		}
		nodes, table, err := h.RDMANodes(known, devices...)
		if err == nil {
			h.RDMA.Store(&table)
		}
		return nodes, err
	}, h.currentRDMA}
}

// fromTable takes RDMA devices as the last look at the host found them, and lists the nodes
// of all of them once.
func (h Host) fromTable() lookup {
	table := sync.OnceValues(h.RDMATable)
	return lookup{h, func(devices []string) ([]libsriov.RDMANode, error) {
		t, err := table()
		return t.Nodes(devices...), err
	}, func(m pool.Member) ([]string, error) { return m.RDMA, nil }}
}

// facts is what a device is used through.
type facts struct {
	nodes []Node
	// info is provider -> key -> value, as containers find it in _INFO.
	info map[string]map[string]string
	rdma []string // RDMA devices
}

func (f *facts) add(n Node) { f.nodes = append(f.nodes, n) }

func same(path string) Node { return Node{Host: path, Container: path} }

// look finds the nodes of a member of a pool. additional is the pool's
// additionalInfo.
func (h lookup) look(m pool.Member, additional map[string]map[string]string) (facts, error) {
	f := facts{info: map[string]map[string]string{"generic": {"deviceID": m.ID}}}
	if m.Type != config.AuxNetDevice {
		driver, err := h.Driver(m.Address)
		if err != nil {
			return f, err
		}
		if err := serves(m, driver); err != nil {
			return f, err
		}
		if err := h.userspaceDriver(&f, m, driver); err != nil {
			return f, err
		}
	}
	if len(additional) > 0 {
		f.info["extra"] = extra(m, additional)
	}
	if m.Selector.VDPA != "" {
		if err := h.vdpa(&f, m); err != nil {
			return f, err
		}
	}
	if m.Selector.RDMA {
		if err := h.rdma(&f, m); err != nil {
			return f, err
		}
	}
	if m.Selector.NeedVhostNet {
		h.vhost(&f)
	}
	return f, nil
}

// serves refuses a device whose driver was taken away or replaced by one that the pool does
// not select since the last look at the host.
func serves(m pool.Member, driver string) error {
	switch {
	case driver == "":
		return fmt.Errorf("%w: no driver is bound any more", ErrNoNode)
	case driver != m.Driver && len(m.Selector.Drivers) > 0 && !slices.Contains(m.Selector.Drivers, driver):
		return fmt.Errorf("%w: bound to %s meanwhile, which the pool does not select", ErrNoNode, driver)
	}
	return nil
}

func (h Host) userspaceDriver(f *facts, m pool.Member, driver string) error {
	switch value.DriverKindOf(driver) {
	case value.VFIO:
		n, err := h.VFIONode(m.Address)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNoNode, err)
		}
		f.add(same(vfioControl))
		f.add(n)
		f.info["vfio"] = map[string]string{"mount": vfioControl, "dev-mount": n.Container}
	case value.UIO:
		n, err := h.UIONode(m.Address)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNoNode, err)
		}
		f.add(n)
		f.info["uio"] = map[string]string{"mount": n.Container}
	case value.NoDriver, value.Kernel, value.Stub: // no node of its own
	}
	return nil
}

// extra merges what the configuration says about all devices, about the
// function, and about the very device.
func extra(m pool.Member, additional map[string]map[string]string) map[string]string {
	values := map[string]string{}
	for _, key := range []string{"*", m.Address.String(), m.ID} {
		for k, v := range additional[key] {
			values[k] = v
		}
	}
	return values
}

func (h Host) vdpa(f *facts, m pool.Member) error {
	f.info["vdpa"] = map[string]string{}
	now, err := h.currentVDPA(m)
	if err != nil {
		return err
	}
	if m.Selector.VDPA == config.VDPAVhost {
		if now.Node == "" {
			return fmt.Errorf("%w: vDPA device %s has no /dev/vhost-vdpa-*", ErrNoNode, now.Name)
		}
		f.add(same(now.Node))
		f.info["vdpa"]["mount"] = now.Node
	}
	return nil
}

// currentVDPA reads the member's vDPA device anew.
func (h Host) currentVDPA(m pool.Member) (libsriov.VDPA, error) {
	known, ok := m.BoundTo(m.Selector.VDPA)
	if !ok {
		return known, fmt.Errorf("%w: %s has no vDPA device of type %s", ErrNoNode, m.ID, m.Selector.VDPA)
	}
	return h.VDPA(known.Name)
}

func (h lookup) rdma(f *facts, m pool.Member) error {
	devices, err := h.rdmaDevices(m)
	if err != nil {
		return err
	}
	nodes, err := h.rdmaNodes(devices)
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return fmt.Errorf("%w: %s has no RDMA device in the host's namespace", ErrNoNode, m.ID)
	}
	info := map[string]string{}
	for _, n := range nodes {
		f.add(same(n.Path))
		if n.Kind != "ucm" { // has no key of its own
			info[n.Kind] = n.Path
		}
	}
	if h.exists(rdmaCM) {
		f.add(same(rdmaCM))
		info["rdma_cm"] = rdmaCM
	}
	f.rdma = devices
	info["rdma_dev"] = strings.Join(devices, ",")
	f.info["rdma"] = info
	return nil
}

func (h Host) currentRDMA(m pool.Member) ([]string, error) {
	now, err := h.Function(m.Address)
	if err != nil {
		return nil, err
	}
	if m.Type != config.AuxNetDevice {
		return now.RDMA, nil
	}
	for _, aux := range now.Aux {
		if aux.Name == m.ID {
			return aux.RDMA, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", m.ID, libsriov.ErrNoDevice)
}

// vhost gives what there is of the two nodes, and says which.
func (h Host) vhost(f *facts) {
	info := map[string]string{}
	for _, n := range []struct{ key, path string }{{"net-mount", vhostNet}, {"tun-mount", tun}} {
		if h.exists(n.path) {
			f.add(same(n.path))
			info[n.key] = n.path
		}
	}
	f.info["vhost"] = info
}

func (h Host) exists(node string) bool {
	_, err := os.Stat(filepath.Join(h.DevRoot, node))
	return err == nil
}
