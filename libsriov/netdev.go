// SPDX-License-Identifier: Apache-2.0

package libsriov

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov/internal/sysfs"
)

// LinkType is the kind of link layer: ARPHRD_* of linux/if_arp.h.
type LinkType int

// Link types of network functions.
const (
	LinkEther      LinkType = 1
	LinkInfiniBand LinkType = 32
)

// String is the name that rtnetlink tools print and selectors use.
func (t LinkType) String() string {
	switch t {
	case LinkEther:
		return "ether"
	case LinkInfiniBand:
		return "infiniband"
	}
	return "arphrd-" + strconv.Itoa(int(t))
}

// LinkType reads an interface's type (net/<name>/type).
func (h *Host) LinkType(netdev string) (LinkType, error) {
	n, err := h.netdevInt(netdev, "type")
	return LinkType(n), err
}

// IfIndex reads an interface's index (net/<name>/ifindex).
func (h *Host) IfIndex(netdev string) (int, error) {
	return h.netdevInt(netdev, "ifindex")
}

// NetdevIndex reads the index of an interface of a function. It goes by the device tree,
// where no other interface can have the name: the error wraps ErrNoNetdev if the name is
// not one of the function's, or not any more.
func (h *Host) NetdevIndex(a Address, netdev string) (int, error) {
	dir, err := h.netdevDir(a, netdev)
	if err != nil {
		return 0, err
	}
	n, err := h.fs.Int(dir + "/ifindex")
	if errors.Is(err, fs.ErrNotExist) {
		err = noNetdev(a, netdev)
	}
	return n, err
}

// NetdevUppers names the interfaces that stand on an interface of a function in the same
// namespace: bridges, bonds, VLANs, macvlans, Open vSwitch. Errors are as of NetdevIndex.
func (h *Host) NetdevUppers(a Address, netdev string) ([]string, error) {
	dir, err := h.netdevDir(a, netdev)
	if err != nil {
		return nil, err
	}
	names, err := h.fs.Names(dir)
	if err == nil && len(names) == 0 { // no interface's directory is empty
		err = noNetdev(a, netdev)
	}
	var uppers []string
	for _, name := range names {
		if upper, ok := strings.CutPrefix(name, "upper_"); ok {
			uppers = append(uppers, upper)
		}
	}
	return uppers, err
}

// netdevDir is where the device tree has an interface of a function: right below it, or
// below virtio and vDPA devices that stand between the two.
func (h *Host) netdevDir(a Address, netdev string) (string, error) {
	if !isNetdevName(netdev) {
		return "", fmt.Errorf("%q is not an interface name", netdev)
	}
	for dirs := []string{device(a, "")}; len(dirs) > 0; dirs = dirs[1:] {
		if dir := dirs[0] + "net/" + netdev; h.fs.Exists(dir) {
			return dir, nil
		}
		names, err := h.fs.Names(dirs[0])
		if err != nil {
			return "", err
		}
		for _, name := range names {
			if isNumbered(name, "virtio") || h.fs.Exists(vdpaBus+"/"+name) {
				dirs = append(dirs, dirs[0]+name+"/")
			}
		}
	}
	return "", noNetdev(a, netdev)
}

func noNetdev(a Address, netdev string) error {
	return fmt.Errorf("interface %s of %s: %w", netdev, a, ErrNoNetdev)
}

// LinkSpeed reads an interface's speed in Mbit/s (net/<name>/speed); ok is false if
// the kernel does not say, as while the link is down.
func (h *Host) LinkSpeed(netdev string) (mbits int, ok bool, err error) {
	mbits, err = h.netdevInt(netdev, "speed")
	if sysfs.Unsaid(err) {
		return 0, false, nil
	}
	return max(mbits, 0), err == nil && mbits > 0, err // -1 is SPEED_UNKNOWN
}

// netdevInt reads a number of an interface. The name may come from outside, so
// it is kept from leading anywhere else.
func (h *Host) netdevInt(netdev, attr string) (int, error) {
	if !isNetdevName(netdev) {
		return 0, fmt.Errorf("%q is not an interface name", netdev)
	}
	return h.fs.Int(netClass + "/" + netdev + "/" + attr)
}

func isNetdevName(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.Contains(s, "/")
}

// ACPIIndex reads the slot number that firmware gave a function (acpi_index);
// ok is false if it gave none.
func (h *Host) ACPIIndex(a Address) (index string, ok bool, err error) {
	return h.fs.OptionalAttr(device(a, "acpi_index"))
}

// PKey reads the first partition key of an InfiniBand function's first port,
// as the kernel prints it: "0x" and four lower-case digits.
func (h *Host) PKey(rdmaDevice string) (string, error) {
	return h.fs.Attr(rdmaClass + "/" + rdmaDevice + "/ports/1/pkeys/0")
}

// SFNum reads the number that a sub-function was created with (sfnum).
func (h *Host) SFNum(aux string) (uint32, error) {
	text, err := h.fs.Attr(auxBus + "/" + aux + "/sfnum")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("sfnum of %s: %w: %.40q", aux, ErrMalformed, text)
	}
	return uint32(n), nil
}
