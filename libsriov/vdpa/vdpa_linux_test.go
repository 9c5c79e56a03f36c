// SPDX-License-Identifier: Apache-2.0

package vdpa

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/k8snetworkplumbingwg/govdpa/pkg/kvdpa"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A device that goes while devices are listed is neither an error nor a kernel without vDPA,
// which would count as one without devices.
func TestDevicesThatGo(t *testing.T) {
	t.Parallel()
	gone := &fs.PathError{Op: "open", Path: "/sys/bus/vdpa/devices/one", Err: unix.ENOENT}
	for name, tc := range map[string]struct {
		answers []error // the last for ever
		looks   int
		none    bool
	}{
		"at once":                   {answers: []error{nil}, looks: 1},
		"its files":                 {answers: []error{gone, gone, nil}, looks: 3},
		"a word of the library's":   {answers: []error{errors.New("virtio device does not exist"), nil}, looks: 2},
		"for ever":                  {answers: []error{gone}, looks: looks},
		"no vDPA in the kernel":     {answers: []error{unix.ENOENT}, looks: 1, none: true},
		"the module goes meanwhile": {answers: []error{gone, unix.ENOENT}, looks: 2, none: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			_, err := settled(func() ([]kvdpa.VdpaDevice, error) {
				asked++
				return nil, tc.answers[min(asked, len(tc.answers))-1]
			})
			require.Equal(t, tc.looks, asked)
			require.ErrorIs(t, err, tc.answers[len(tc.answers)-1])
			require.Equal(t, tc.none, errors.Is(wrap("list", err), ErrNotSupported))
		})
	}
}
