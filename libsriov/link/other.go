// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package link

import (
	"net/netip"
	"os"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
)

// Namespace stands in for Linux's.
type Namespace struct{ Path string }

// Namespaces is ErrNotLinux.
func Namespaces(string) ([]Namespace, error) { return nil, libsriov.ErrNotLinux }

// Find is ErrNotLinux.
func Find(string, libsriov.Address) (*os.File, Link, error) { return nil, Link{}, libsriov.ErrNotLinux }

// Conn cannot be opened here; see the methods of Linux's.
type Conn struct{}

// Open is ErrNotLinux.
func Open(*os.File) (*Conn, error) { return nil, libsriov.ErrNotLinux }

// Parse is ErrNotLinux.
func Parse([]byte) (Link, error) { return Link{}, libsriov.ErrNotLinux }

func (*Conn) Close() error                                 { return libsriov.ErrNotLinux }
func (*Conn) Requests() int                                { return 0 }
func (*Conn) ByIndex(int) (Link, error)                    { return Link{}, libsriov.ErrNotLinux }
func (*Conn) ByName(string) (Link, error)                  { return Link{}, libsriov.ErrNotLinux }
func (*Conn) All() ([]Link, error)                         { return nil, libsriov.ErrNotLinux }
func (*Conn) ByParent(libsriov.Address) (Link, error)      { return Link{}, libsriov.ErrNotLinux }
func (*Conn) AddAddress(int, netip.Prefix, bool) error     { return libsriov.ErrNotLinux }
func (*Conn) Addresses(int) ([]netip.Prefix, error)        { return nil, libsriov.ErrNotLinux }
func (*Conn) GlobalAddresses(int) ([]netip.Prefix, error)  { return nil, libsriov.ErrNotLinux }
func (*Conn) NSID(*os.File) (id int32, ok bool, err error) { return 0, false, libsriov.ErrNotLinux }
func (*Conn) AddRoute(Route) error                         { return libsriov.ErrNotLinux }
func (*Conn) Routes() ([]Route, error)                     { return nil, libsriov.ErrNotLinux }
func (*Conn) DefaultRoutes() ([]int, error)                { return nil, libsriov.ErrNotLinux }
func (*Conn) Set(int, Update) error                        { return libsriov.ErrNotLinux }
func (*Conn) Move(Link, *os.File, *Conn, Update) error     { return libsriov.ErrNotLinux }
func (*Conn) SetUp(string, bool) error                     { return libsriov.ErrNotLinux }
func (*Conn) Delete(int) error                             { return libsriov.ErrNotLinux }
func (*Conn) DetachXDP(Link) error                         { return libsriov.ErrNotLinux }
func (*Conn) AttachXDP(int, int, uint32) error             { return libsriov.ErrNotLinux }
func (*Conn) AddAltName(int, string) error                 { return libsriov.ErrNotLinux }
func (*Conn) DeleteAltName(int, string) error              { return libsriov.ErrNotLinux }
func (*Conn) VFCounters(int) (map[int]VFCounters, error)   { return nil, libsriov.ErrNotLinux }
func (*Conn) VFStates(int) (map[int]vfstate.State, error)  { return nil, libsriov.ErrNotLinux }
func (*Conn) VFState(int, int) (vfstate.State, error)      { return vfstate.State{}, libsriov.ErrNotLinux }
func (*Conn) SetVF(int, int, vfstate.State) error          { return libsriov.ErrNotLinux }
