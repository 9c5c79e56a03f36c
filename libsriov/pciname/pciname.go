// SPDX-License-Identifier: Apache-2.0

// Package pciname turns vendor and device numbers into names for people. No
// decision may rest on them: the database differs from host to host and may be
// missing.
package pciname

import (
	"github.com/jaypipes/pcidb"
	"github.com/sriovkit/sriovkit/libsriov"
)

// Names is the host's PCI database. The zero value knows no names.
type Names struct {
	db *pcidb.PCIDB
}

// Open reads the whole database from the usual places (hwdata,
// /usr/share/misc); it is some megabytes of text, so only tools that talk to
// people should. Without a database every name is the number.
func Open() Names {
	db, err := pcidb.New()
	if err != nil {
		return Names{}
	}
	return Names{db}
}

// Vendor names a vendor.
func (n Names) Vendor(id libsriov.ID) string {
	if n.db != nil {
		if v, ok := n.db.Vendors[id.String()]; ok {
			return v.Name
		}
	}
	return id.String()
}

// Device names a device of a vendor.
func (n Names) Device(vendor, id libsriov.ID) string {
	if n.db != nil {
		if p, ok := n.db.Products[vendor.String()+id.String()]; ok {
			return p.Name
		}
	}
	return id.String()
}
