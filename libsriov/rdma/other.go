// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package rdma

import (
	"os"

	"github.com/sriovkit/sriovkit/libsriov"
)

// Conn cannot be opened here; see the methods of Linux's.
type Conn struct{}

// Open is ErrNotLinux.
func Open(*os.File) (*Conn, error) { return nil, libsriov.ErrNotLinux }

func (*Conn) Close()              {}
func (*Conn) Mode() (Mode, error) { return "", libsriov.ErrNotLinux }
func (*Conn) SetMode(Mode) error  { return libsriov.ErrNotLinux }
