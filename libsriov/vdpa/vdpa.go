// Package vdpa creates and removes vDPA devices through generic netlink
// (https://man7.org/linux/man-pages/man8/vdpa-dev.8.html). What sysfs tells of
// them is in package libsriov.
package vdpa

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNotSupported: the kernel has no vDPA, or its module is not loaded.
var ErrNotSupported = errors.New("no vDPA in this kernel; try: modprobe vdpa")

// Parent is a device that vDPA devices are made of.
type Parent struct {
	Bus  string // "pci" for a VF; "" for vdpasim_net
	Name string // PCI address of the VF
}

func (p Parent) String() string {
	if p.Bus == "" {
		return p.Name
	}
	return p.Bus + "/" + p.Name
}

// Parents lists the devices that vDPA devices can be made of.
func Parents() ([]Parent, error) {
	devices, err := netlink.VDPAGetMGMTDevList()
	if err != nil {
		return nil, wrap("list vDPA parents", err)
	}
	var parents []Parent
	for _, d := range devices {
		parents = append(parents, Parent{Bus: d.BusName, Name: d.DevName})
	}
	return parents, nil
}

// Add creates a vDPA network device. A nil mac leaves the choice to the driver.
func Add(name string, parent Parent, mac net.HardwareAddr) error {
	return wrap(fmt.Sprintf("add vDPA device %s on %s", name, parent),
		netlink.VDPANewDev(name, parent.Bus, parent.Name, netlink.VDPANewDevParams{MACAddr: mac}))
}

// Delete removes a vDPA device.
func Delete(name string) error {
	return wrap("delete vDPA device "+name, netlink.VDPADelDev(name))
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOENT) {
		err = fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
