package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"golang.org/x/sys/unix"
)

// device is a VF as sysfs shows it.
type device struct {
	libsriov.Address
	Driver    string
	Netdev    string   // its interface in the host's namespace; "" if there is none
	Netdevs   []string // all of them, where the function has several
	Userspace bool     // driven by a program: there is no interface to move
	Index     int      // among the PF's VFs
	Physfn    bool     // a VF of a PF that sysfs shows
	PF        *pf      // nil: no PF in sight, as inside a virtual machine
}

// pf is the interface through which a PF is told about its VFs.
type pf struct {
	libsriov.Address
	Driver  string
	Name    string
	IfIndex int
}

// look reads what sysfs says about a VF. ErrNoDevice stays reachable.
func (p *Plugin) look(a libsriov.Address) (device, error) {
	vf, err := p.host.VF(a)
	fn, isVF := vf.Function, true
	if errors.Is(err, libsriov.ErrNotVF) { // a PF, or a VF without a PF in sight
		isVF = false
		fn, err = p.host.Function(a)
	}
	if err != nil {
		return device{}, noDevice(p, a, err)
	}
	d := device{Address: a, Driver: fn.Driver, Netdevs: fn.Netdevs, Physfn: isVF}
	if len(fn.Netdevs) > 0 {
		d.Netdev = fn.Netdevs[0]
	}
	d.Userspace = d.Netdev == "" && (isUserspace(fn.Driver) || p.usesVhost(fn.VDPA))

	if !isVF {
		if _, err := p.host.NumVFs(a); err == nil {
			return d, &failure{Code: codeDevice,
				Err:  fmt.Errorf("failed to get VF information: %s/physfn/net: %s is a PF", p.path("sys/bus/pci/devices/"+a.String()), a),
				Hint: "deviceID must be the address of a VF; the device plugin must offer VFs, not this PF"}
		}
		return d, nil
	}
	d.Index = vf.Index
	d.PF, err = p.lookPF(vf.PF)
	return d, err
}

func noDevice(p *Plugin, a libsriov.Address, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s: %w", a, libsriov.ErrNoDevice)
	}
	return &failure{Code: codeDevice, Err: fmt.Errorf("failed to get VF information: %w", err),
		Hint: "deviceID must be the PCI address of a VF of this node, one of " + p.path("sys/bus/pci/devices")}
}

// lookPF finds the interface of a PF that is told about VFs. nil without an
// error is a PF that has none, for instance because it is bound to vfio-pci.
func (p *Plugin) lookPF(a libsriov.Address) (*pf, error) {
	fn, err := p.host.Function(a)
	if err != nil {
		return nil, &failure{Code: codeDevice, Err: fmt.Errorf("PF of the VF: %w", err)}
	}
	name, err := p.host.Uplink(fn)
	if errors.Is(err, libsriov.ErrNoNetdev) && len(fn.Netdevs) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, &failure{Code: codeDevice, Err: fmt.Errorf("PF of the VF: %w", err)}
	}
	index, err := p.host.IfIndex(name)
	if err != nil {
		return nil, &failure{Code: codeDevice, Err: fmt.Errorf("PF of the VF: %w", err)}
	}
	return &pf{Address: a, Driver: fn.Driver, Name: name, IfIndex: index}, nil
}

// usesVhost tells that one of a function's vDPA devices is handed to programs
// (bound to vhost_vdpa) instead of driving an interface.
func (p *Plugin) usesVhost(vdpa []string) bool {
	for _, name := range vdpa {
		target, err := os.Readlink(p.path("sys/bus/vdpa/devices/" + name + "/driver"))
		if err == nil && strings.HasSuffix(target, "/vhost_vdpa") {
			return true
		}
	}
	return false
}

// find looks for a VF's interface: on the host, then in the pod's namespace,
// then in every other. ns is nil if it is on the host; the caller closes it
// otherwise. The error wraps link.ErrNotFound if it is nowhere.
func (p *Plugin) find(host *link.Conn, d device, j journal) (l link.Link, ns *os.File, err error) {
	if d.Netdev != "" {
		l, err := host.ByName(d.Netdev)
		if !errors.Is(err, link.ErrNotFound) {
			return l, nil, err
		}
	}
	if f, _, err := j.NetNS.open(); err == nil {
		if l, err := p.findIn(f, j, true); err == nil {
			return l, f, nil
		}
		f.Close()
	}
	spaces, err := link.Namespaces(p.Root)
	for _, s := range spaces {
		f, operr := open(s.Path, unix.O_RDONLY, 0)
		if operr != nil {
			if !errors.Is(operr, fs.ErrNotExist) {
				err = errors.Join(err, operr)
			}
			continue
		}
		l, finderr := p.findIn(f, j, false)
		switch {
		case finderr != nil:
			f.Close()
		case sameFile(f, p.path("proc/self/ns/net")): // not listed below the VF: a virtio one
			f.Close()
			return l, nil, nil
		default:
			return l, f, nil
		}
	}
	return link.Link{}, nil, errors.Join(fmt.Errorf("interface of %s: %w", d.Address, link.ErrNotFound), err)
}

// findIn looks for the interface of a journal in one namespace, by the index it
// had, which a move keeps if it can, and else by the device it belongs to.
func (p *Plugin) findIn(ns *os.File, j journal, pod bool) (link.Link, error) {
	c, err := link.Open(ns)
	if err != nil {
		return link.Link{}, err
	}
	defer c.Close()
	if j.Link.Index != 0 {
		if l, err := c.ByIndex(j.Link.Index); err == nil && (j.Link.is(l) || pod && l.Parent == "" && j.Link.Parent == "") {
			return l, nil
		}
	}
	links, err := c.All()
	if err != nil {
		return link.Link{}, err
	}
	for _, l := range links {
		if j.Link.is(l) {
			return l, nil
		}
	}
	return link.Link{}, link.ErrNotFound
}

// is tells that l is the interface that the state was taken of. Kernels before
// 5.14 do not tell a parent; there only the index speaks for it, so they are
// believed in the pod's own namespace alone.
func (s *linkState) is(l link.Link) bool { return s.Parent != "" && l.Parent == s.Parent }

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// state reads what the PF enforces for a VF; zero without a PF.
func (d device) state(c *link.Conn) (vfstate.State, error) {
	if d.PF == nil {
		return vfstate.State{}, nil
	}
	s, err := c.VFState(d.PF.IfIndex, d.Index)
	if err != nil {
		return s, &failure{Code: codeDevice, Err: fmt.Errorf("failed to get VF information: PF %s (%s): %w", d.PF.Name, d.PF.Driver, err)}
	}
	return s, nil
}
