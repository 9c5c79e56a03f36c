// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package vdpa

import "github.com/sriovkit/sriovkit/libsriov"

// Parents is ErrNotLinux.
func Parents() ([]Parent, error) { return nil, libsriov.ErrNotLinux }

// Devices is ErrNotLinux.
func Devices() ([]Device, error) { return nil, libsriov.ErrNotLinux }

// Add is ErrNotLinux.
func Add(string, Parent) error { return libsriov.ErrNotLinux }

// Delete is ErrNotLinux.
func Delete(string) error { return libsriov.ErrNotLinux }

// Bind is ErrNotLinux.
func Bind(string, string) error { return libsriov.ErrNotLinux }
