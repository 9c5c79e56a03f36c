// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package event

import (
	"context"
	"os"

	"github.com/sriovkit/sriovkit/libsriov"
)

// Devices cannot be subscribed to here.
type Devices struct{ *subscription }

// Links cannot be subscribed to here.
type Links struct{ *subscription }

// DefaultRoutes cannot be subscribed to here.
type DefaultRoutes struct{ *subscription }

type subscription struct{}

func (*subscription) Close() error { return libsriov.ErrNotLinux }

// OpenDevices is ErrNotLinux.
func OpenDevices() (*Devices, error) { return nil, libsriov.ErrNotLinux }

// OpenLinks is ErrNotLinux.
func OpenLinks(*os.File) (*Links, error) { return nil, libsriov.ErrNotLinux }

// OpenDefaultRoutes is ErrNotLinux.
func OpenDefaultRoutes(*os.File) (*DefaultRoutes, error) { return nil, libsriov.ErrNotLinux }

func (*Devices) Next(context.Context) (Device, error)    { return Device{}, libsriov.ErrNotLinux }
func (*Links) Next(context.Context) (Link, error)        { return Link{}, libsriov.ErrNotLinux }
func (*DefaultRoutes) Next(context.Context) (int, error) { return 0, libsriov.ErrNotLinux }
