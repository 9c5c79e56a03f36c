// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov/internal/nl"
)

// Versions reads the versions of what runs on a device, by name, e.g. "fw.mgmt"
// or, on Intel's E810, the loaded DDP package as "fw.app.name"
// (https://docs.kernel.org/networking/devlink/devlink-info.html).
func (c *Conn) Versions(d Device) (map[string]string, error) {
	out, err := c.execute("versions", vnl.DEVLINK_CMD_INFO_GET, d)
	if err != nil {
		return nil, err
	}
	versions := map[string]string{}
	for _, m := range out {
		err := c.family.Each(m, func(kind uint16, v []byte) {
			if kind != vnl.DEVLINK_ATTR_INFO_VERSION_RUNNING {
				return
			}
			var name, value string
			_ = nl.Nested(v, func(kind uint16, v []byte) { // what cannot be parsed has no name and is left out
				switch kind {
				case vnl.DEVLINK_ATTR_INFO_VERSION_NAME:
					name = unix.ByteSliceToString(v)
				case vnl.DEVLINK_ATTR_INFO_VERSION_VALUE:
					value = unix.ByteSliceToString(v)
				}
			})
			if name != "" {
				versions[name] = value
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return versions, nil
}

// paramTypeFlag is NLA_FLAG, the type of a parameter that is on or off: its
// value is an attribute that is there or not.
const paramTypeFlag = 6

// BoolParam reads a device parameter that is on or off, e.g. "enable_rdma", as
// it takes effect at run time or, for one that has no such value, after the
// next reload of the driver
// (https://docs.kernel.org/networking/devlink/devlink-params.html).
func (c *Conn) BoolParam(d Device, name string) (bool, error) {
	out, err := c.execute("parameter "+name, vnl.DEVLINK_CMD_PARAM_GET, d,
		vnl.NewRtAttr(vnl.DEVLINK_ATTR_PARAM_NAME, vnl.ZeroTerminated(name)))
	if err != nil {
		return false, err
	}
	on := false
	for _, m := range out {
		err = c.family.Each(m, func(kind uint16, param []byte) {
			if kind == vnl.DEVLINK_ATTR_PARAM {
				on = on || flagParam(param)
			}
		})
		if err != nil {
			return false, err
		}
	}
	return on, nil
}

// flagParam finds the value in the nest that describes a parameter.
func flagParam(param []byte) (on bool) {
	isFlag := false
	_ = nl.Nested(param, func(kind uint16, v []byte) {
		switch kind {
		case vnl.DEVLINK_ATTR_PARAM_TYPE:
			isFlag = len(v) == 1 && v[0] == paramTypeFlag
		case vnl.DEVLINK_ATTR_PARAM_VALUES_LIST:
			_ = nl.Nested(v, func(_ uint16, value []byte) {
				_ = nl.Nested(value, func(kind uint16, _ []byte) {
					on = on || kind == vnl.DEVLINK_ATTR_PARAM_VALUE_DATA
				})
			})
		}
	})
	return on && isFlag
}
