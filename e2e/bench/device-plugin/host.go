// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// shape is the size of a host and of its configuration.
type shape struct{ PFs, VFs, Pools int }

func (s shape) String() string { return fmt.Sprintf("%dx%dx%d", s.PFs, s.VFs, s.Pools) }

func parseShape(text string) (shape, error) {
	var s shape
	_, err := fmt.Sscanf(text, "%dx%dx%d", &s.PFs, &s.VFs, &s.Pools)
	if err != nil || s.PFs < 1 || s.VFs < 1 || s.Pools < 1 || s.PFs*s.VFs < s.Pools {
		return s, fmt.Errorf("host %q: want PFs x VFs a PF x pools, e.g. 2x64x8, and a VF for each pool", text)
	}
	return s, nil
}

// bystanders is how many devices of other classes the host has, as a server
// does.
const bystanders = 150

// host is the machine that the binaries see.
type host struct {
	shape
	dir, config string
	rdma        bool // VFs have RDMA devices, which pools select
}

// registry is where the binaries put their sockets.
const registry = "/var/lib/kubelet/plugins_registry"

// newHost changes this process's mount and network namespaces, which must be
// its own, into the host of a task.
func newHost(t task) (*host, error) {
	h := &host{shape: t.Host, dir: t.Dir, config: filepath.Join(t.Dir, "config.json"), rdma: t.RDMA}
	tree := filepath.Join(t.Dir, "tree")
	for i, b := range t.Binaries { // the mounts below may hide where they are
		if err := copyFile(b.Path, filepath.Join(t.Dir, fmt.Sprint(i))); err != nil {
			return nil, err
		}
		t.Binaries[i].Path = filepath.Join(t.Dir, fmt.Sprint(i))
	}
	if t.Client != "" {
		if err := copyFile(t.Client, filepath.Join(t.Dir, "client")); err != nil {
			return nil, err
		}
	}
	system := filepath.Join(tree, "sys/devices/system") // CPUs and memory as they are
	if err := os.MkdirAll(system, 0o755); err != nil {
		return nil, err
	}
	text := sriovtest.Generate(sriovtest.Spec{PFs: h.PFs, VFs: h.VFs, Bystanders: bystanders, VFDriver: "vfio-pci", RDMA: t.RDMA})
	if err := sriovtest.Unpack(tree, text); err != nil {
		return nil, err
	}
	for _, m := range []struct {
		from, to, kind string
		flags          uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"/sys/devices/system", system, "", unix.MS_BIND | unix.MS_REC},
		{filepath.Join(tree, "sys"), "/sys", "", unix.MS_BIND | unix.MS_REC},
		{"tmpfs", "/var/lib", "tmpfs", 0},
		{"tmpfs", "/run", "tmpfs", 0},
	} {
		if err := unix.Mount(m.from, m.to, m.kind, m.flags, ""); err != nil {
			return nil, fmt.Errorf("mount %s on %s: %w", m.from, m.to, err)
		}
	}
	if err := h.links(); err != nil {
		return nil, err
	}
	return h, h.configure()
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// links makes an interface for each PF, for binaries that ask rtnetlink.
func (h *host) links() error {
	for i := range h.PFs {
		name := fmt.Sprintf("pf%d", i)
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
			return fmt.Errorf("add interface %s: %w", name, err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo) // for metrics
}

// configure gives each pool a range of VFs of one PF, or of several whole PFs
// if there are fewer pools than PFs.
func (h *host) configure() error {
	b, err := libsriov.Open("/")
	if err != nil {
		return err
	}
	s, err := b.Snapshot()
	if err != nil {
		return err
	}
	roots := make([][]string, h.Pools)
	total := h.PFs * h.VFs
	for pool := range h.Pools {
		for first := pool * total / h.Pools; first < (pool+1)*total/h.Pools; {
			pf, from := first/h.VFs, first%h.VFs
			to := min(h.VFs, from+(pool+1)*total/h.Pools-first)
			roots[pool] = append(roots[pool], fmt.Sprintf("%s#%d-%d", s.PFs[pf].Address, from, to-1))
			first += to - from
		}
	}
	type selector struct {
		Vendors     []string `json:"vendors"`
		Devices     []string `json:"devices"`
		Drivers     []string `json:"drivers"`
		RootDevices []string `json:"rootDevices"`
		RDMA        bool     `json:"isRdma,omitempty"`
	}
	type resource struct {
		Name      string   `json:"resourceName"`
		Selectors selector `json:"selectors"`
	}
	var list []resource
	for i, r := range roots {
		list = append(list, resource{fmt.Sprintf("pool_%d", i), selector{[]string{"8086"}, []string{"1889"}, []string{"vfio-pci"}, r, h.rdma}})
	}
	text, err := json.Marshal(map[string]any{"resourceList": list})
	if err != nil {
		return err
	}
	return os.WriteFile(h.config, text, 0o644)
}
