// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package devlink

import "github.com/sriovkit/sriovkit/libsriov"

// Conn cannot be opened here; see the methods of Linux's.
type Conn struct{}

// Open is ErrNotLinux.
func Open() (*Conn, error) { return nil, libsriov.ErrNotLinux }

func (*Conn) Close() error                               { return libsriov.ErrNotLinux }
func (*Conn) Mode(Device) (Mode, error)                  { return 0, libsriov.ErrNotLinux }
func (*Conn) SetMode(Device, Mode) error                 { return libsriov.ErrNotLinux }
func (*Conn) Versions(Device) (map[string]string, error) { return nil, libsriov.ErrNotLinux }
func (*Conn) BoolParam(Device, string) (bool, error)     { return false, libsriov.ErrNotLinux }
func (*Conn) Ports() ([]Port, error)                     { return nil, libsriov.ErrNotLinux }
