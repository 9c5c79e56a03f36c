// SPDX-License-Identifier: Apache-2.0

// Package state is what the plugin knows between two calls: the files of its
// directory, who wrote what into them, and the lock of each VF.
//
// Of each attachment there are three files:
//
//	vf/<address>.json          Journal: who has the VF and how it was before
//	pci/<address>              marker: path of the namespace that has the VF
//	<containerID>-<ifname>     Record: the configuration ADD was given
//
// and pci/vf_lock/<address>.lock is the lock of a VF, which stays. Marker, record
// and lock have the names and formats of the SR-IOV CNI plugin that this one
// replaces, so either can take over from the other under running pods.
//
// ADD writes the journal before it changes anything, then the record, then the
// marker, with which it has reached its end; DEL removes marker, journal, record.
// The journal is what the VF is brought back to, however many ADDs and DELs fail
// meanwhile. Without a journal the VF is as its administrator wants it, and stays so.
// Files appear whole, and are not synced to disk: a power cut also ends what they
// describe, and each names the boot that it is of, so that none is taken for current
// after the next.
package state

import (
	"net"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"golang.org/x/sys/unix"
)

// Attachment names one interface of one container, as the runtime does.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// Journal is what ADD writes before it changes anything: who gets the VF, what
// is about to be changed, and how everything was. It is all that is needed to
// bring the VF back, at whatever point ADD or DEL was killed; its presence means
// that the VF is not known to be as it was. Keys are only ever added.
type Journal struct {
	Version int        `json:"version"`
	Owner   Attachment `json:"owner"`
	Network string     `json:"network"` // name of the configuration

	Device   libsriov.Address  `json:"device"`
	Identity Identity          `json:"identity"`
	PF       *libsriov.Address `json:"pf,omitempty"` // nil: no PF in sight
	VFIndex  int               `json:"vf"`
	NetNS    Namespace         `json:"netns"`

	Before vfstate.State `json:"before"` // what the PF enforced
	Want   vfstate.State `json:"want"`   // what ADD has it enforce
	Link   *Link         `json:"link"`   // the interface as it was; nil: driven from user space

	// MACLocked: the PF had set the VF's MAC and kept it from choosing another.
	MACLocked bool `json:"macLocked,omitempty"`

	// Guessed: nothing told how the VF was. Before is what is safe, as far as the
	// driver reports it.
	Guessed bool `json:"-"`

	// FormerBoot: the record that this was made of tells no boot, and is older than this one.
	FormerBoot bool `json:"-"`

	// Committed: ADD reached its end; marker and record go with the journal from
	// here on. Without them it is out of date: see Store.LoadJournal. It is the
	// last key and always there, for Store.Commit.
	Committed bool `json:"committed"`
}

// Version is that of the files' format.
const Version = 1

// Link is what a pod may change on an interface and ADD's undoing restores.
type Link struct {
	Parent    string   `json:"parent"` // IFLA_PARENT_DEV_NAME, by which it is found again
	Index     int      `json:"index"`  // on the host
	Name      string   `json:"name"`
	MAC       MAC      `json:"mac"`
	MTU       int      `json:"mtu"`
	Up        *bool    `json:"up,omitempty"`        // nil: not known
	Promisc   *bool    `json:"promisc,omitempty"`   // nil: not known
	AllMulti  *bool    `json:"allmulti,omitempty"`  // nil: not known
	NoARP     *bool    `json:"noARP,omitempty"`     // nil: not known
	Multicast *bool    `json:"multicast,omitempty"` // nil: not known
	Dormant   *bool    `json:"dormant,omitempty"`   // nil: not known
	Broadcast MAC      `json:"broadcast,omitempty"` // nil: not known
	AltNames  []string `json:"altNames"`            // nil: not known
	Alias     *string  `json:"alias,omitempty"`     // nil: not known
	TxQLen    *uint32  `json:"txQLen,omitempty"`    // nil: not known
	Group     *uint32  `json:"group,omitempty"`     // nil: not known
	XDP       bool     `json:"xdp,omitempty"`       // a program is attached
}

// Is reports whether l is the VF's interface: of the parent that was seen or, where
// a record is all that tells, of the device. Kernels before 5.14 do not tell a
// parent; there only the index speaks for it, so they are believed in the pod's own
// namespace alone.
func (j Journal) Is(l link.Link) bool {
	return j.Link.Parent != "" && l.Parent == j.Link.Parent || l.BelongsTo(j.Device)
}

// OrdinaryLink is a VF's interface of which no file tells how it was: what a pod may change and
// nobody else does is as drivers make it, the rest is not known.
func OrdinaryLink(a libsriov.Address, name string) *Link {
	return &Link{
		Parent: a.String(), Name: name,
		NoARP: new(false), Multicast: new(true), Dormant: new(false), Broadcast: MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	}
}

// LinkOf is the state of an interface as it is now.
func LinkOf(l link.Link) *Link {
	s := &Link{
		Parent: l.Parent, Index: l.Index, Name: l.Name, MAC: MAC(l.MAC), MTU: l.MTU,
		Up: new(l.Up()), Promisc: new(l.Flags&unix.IFF_PROMISC != 0), AllMulti: new(l.Flags&unix.IFF_ALLMULTI != 0),
		NoARP: new(l.Flags&unix.IFF_NOARP != 0), Multicast: new(l.Flags&unix.IFF_MULTICAST != 0), Dormant: &l.Dormant, Broadcast: MAC(l.Broadcast),
		AltNames: slices.Clone(l.AltNames), Alias: &l.Alias, TxQLen: &l.TxQLen, Group: &l.Group, XDP: l.XDP != 0,
	}
	if s.AltNames == nil {
		s.AltNames = []string{}
	}
	slices.Sort(s.AltNames)
	return s
}

// MAC is an address that JSON shows in the usual notation.
type MAC net.HardwareAddr

// MarshalText writes "ca:fe:c0:ff:ee:01".
func (m MAC) MarshalText() ([]byte, error) { return []byte(net.HardwareAddr(m).String()), nil }

// UnmarshalText reads what MarshalText wrote; "" is nil.
func (m *MAC) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = nil
		return nil
	}
	parsed, err := net.ParseMAC(string(b))
	*m = MAC(parsed)
	return err
}

// Identity tells a PCI function from another that has its address later: after
// a reboot, or because VFs were destroyed and created again.
type Identity struct {
	Boot  string `json:"boot"`  // /proc/sys/kernel/random/boot_id
	Inode uint64 `json:"inode"` // of the sysfs directory, which the kernel numbers anew
}
