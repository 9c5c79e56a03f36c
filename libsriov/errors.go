// SPDX-License-Identifier: Apache-2.0

package libsriov

import (
	"errors"
	"fmt"
	"io/fs"
)

// Decisions that callers take. Each is wrapped with the object it is about, and
// with the kernel's errno where there was one.
var (
	// ErrNoDevice: no such PCI function. It is an fs.ErrNotExist.
	ErrNoDevice = fmt.Errorf("no such PCI function: %w", fs.ErrNotExist)
	// ErrNotPF: the function has no SR-IOV capability.
	ErrNotPF = errors.New("not an SR-IOV physical function")
	// ErrNotVF: the function has no PF in sight. A VF that was handed to a
	// virtual machine looks like this from inside.
	ErrNotVF = errors.New("not a virtual function of a PF in sight")
	// ErrVFsInUse: VFs exist and another non-zero count was asked for; the
	// kernel wants 0 in between (EBUSY).
	ErrVFsInUse = errors.New("VFs exist already; set 0 first")
	// ErrTooManyVFs: more VFs than sriov_totalvfs.
	ErrTooManyVFs = errors.New("more VFs than the device offers")
	// ErrNoNetdev: the function has no network interface in this namespace.
	ErrNoNetdev = errors.New("no network interface in this namespace")
	// ErrNoSnapshot: nothing is known of the host's devices at this moment, which is not
	// the same as that there are none.
	ErrNoSnapshot = errors.New("devices cannot be listed")
	// ErrNotLinux: this system has no netlink and no namespaces. Packages that use them compile
	// everywhere, so that programs can be edited, vetted and run on captured trees. It is an
	// errors.ErrUnsupported.
	ErrNotLinux = fmt.Errorf("needs Linux: %w", errors.ErrUnsupported)
	// ErrMalformed: the kernel's text is not what its documentation says.
	ErrMalformed = errors.New("malformed kernel attribute")
)

// DeviceError tells which function could not be read, and why.
type DeviceError struct {
	// Device is the name of the directory in /sys/bus/pci/devices, which need
	// not be an address if sysfs itself is broken.
	Device string
	Err    error
}

func (e *DeviceError) Error() string { return e.Device + ": " + e.Err.Error() }

func (e *DeviceError) Unwrap() error { return e.Err }
