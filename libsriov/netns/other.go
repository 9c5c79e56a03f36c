// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package netns

import (
	"os"

	"github.com/sriovkit/sriovkit/libsriov"
)

// Within runs call if ns is nil; else it is ErrNotLinux.
func Within(ns *os.File, call func() error) error {
	if ns == nil {
		return call()
	}
	return libsriov.ErrNotLinux
}
