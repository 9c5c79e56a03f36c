// SPDX-License-Identifier: Apache-2.0

package vdpa

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/k8snetworkplumbingwg/govdpa/pkg/kvdpa"
	"golang.org/x/sys/unix"
)

// Parents lists the devices that vDPA devices can be made of.
func Parents() ([]Parent, error) {
	devices, err := kvdpa.ListVdpaMgmtDevices()
	if err != nil {
		return nil, wrap("list vDPA parents", err)
	}
	var parents []Parent
	for _, d := range devices {
		parents = append(parents, Parent{Bus: d.BusName(), Name: d.DevName()})
	}
	return parents, nil
}

const (
	looks        = 20
	betweenLooks = 10 * time.Millisecond
)

// Devices lists the vDPA devices. One that is being removed meanwhile is waited for, 0.2 s
// at most.
func Devices() ([]Device, error) {
	all, err := settled(kvdpa.ListVdpaDevices)
	if err != nil {
		return nil, wrap("list vDPA devices", err)
	}
	var devices []Device
	for _, d := range all {
		device := Device{Name: d.Name(), Driver: d.Driver()}
		if m := d.MgmtDev(); m != nil {
			device.Parent = Parent{Bus: m.BusName(), Name: m.DevName()}
		}
		devices = append(devices, device)
	}
	return devices, nil
}

// settled lists devices. govdpa takes one that is being removed for an error, as its files are
// in one place still and not in another. A moment later they are in neither.
func settled(list func() ([]kvdpa.VdpaDevice, error)) ([]kvdpa.VdpaDevice, error) {
	all, err := list()
	for look := 1; err != nil && !noFamily(err) && look < looks; look++ {
		time.Sleep(betweenLooks)
		all, err = list()
	}
	return all, err
}

// noFamily reports whether the kernel has no vDPA. Its files may be missing for other reasons.
func noFamily(err error) bool {
	return errors.Is(err, unix.ENOENT) && !errors.As(err, new(*fs.PathError))
}

// Add creates a vDPA network device, whose address and queues the driver chooses. A VF
// has one at most: the error of a second is ErrExists.
func Add(name string, parent Parent) error {
	what := fmt.Sprintf("add vDPA device %s on %s", name, parent)
	devices, err := Devices()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	for _, d := range devices {
		if d.Parent == parent && parent.Bus != "" {
			return fmt.Errorf("%s: %w: %s", what, ErrExists, d.Name)
		}
	}
	return wrap(what, kvdpa.AddVdpaDevice(parent.String(), name))
}

// Delete removes a vDPA device.
func Delete(name string) error {
	return wrap("delete vDPA device "+name, kvdpa.DeleteVdpaDevice(name))
}

// Bind gives a vDPA device to a driver, now and whenever the kernel looks for one:
// libsriov.VDPAVhost makes a character device of it, libsriov.VDPAVirtio a network
// interface. Left alone, a new device goes to whichever of them was loaded first.
func Bind(name, driver string) error {
	if err := bind(name, driver); err != nil {
		return fmt.Errorf("bind vDPA device %s to %s: %w", name, driver, err)
	}
	return nil
}

func bind(name, driver string) error {
	if name == "" || strings.HasPrefix(name, ".") || strings.Contains(name, "/") {
		return fmt.Errorf("%q is not the name of a device", name)
	}
	const bus = "/sys/bus/vdpa/"
	device := bus + "devices/" + name
	if _, err := os.Stat(bus + "drivers/" + driver); err != nil {
		return fmt.Errorf("no such driver: %w; try: modprobe %s", err, driver)
	}
	if err := os.WriteFile(device+"/driver_override", []byte(driver), 0); err != nil {
		return err
	}
	now, err := os.Readlink(device + "/driver")
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case filepath.Base(now) == driver:
		return nil
	default:
		if err := os.WriteFile(bus+"drivers/"+filepath.Base(now)+"/unbind", []byte(name), 0); err != nil {
			return err
		}
	}
	return os.WriteFile(bus+"drivers/"+driver+"/bind", []byte(name), 0)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	if noFamily(err) {
		err = fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
