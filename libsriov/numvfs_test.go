// SPDX-License-Identifier: Apache-2.0

package libsriov_test

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// The rules that the kernel enforces are told before a write is tried.
func TestSetNumVFs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		have, want int
		errno      error // of the write
		err        error
		writes     []string
	}{
		"create":                   {want: 8, writes: []string{"8"}},
		"remove":                   {have: 8, want: 0, writes: []string{"0"}},
		"nothing to do":            {have: 8, want: 8},
		"another count":            {have: 8, want: 4, err: libsriov.ErrVFsInUse},
		"more than there are":      {want: 257, err: libsriov.ErrTooManyVFs},
		"refused as busy":          {want: 8, errno: syscall.EBUSY, err: libsriov.ErrVFsInUse, writes: []string{"8"}},
		"refused, errno reachable": {want: 8, errno: syscall.ENOMEM, err: syscall.ENOMEM, writes: []string{"8"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			require.NoError(t, sriovtest.Unpack(root, sriovtest.Generate(sriovtest.Spec{PFs: 1, VFs: tc.have})))
			var writes []string
			h := sriovtest.Refusing(root, func(path, value string) error {
				assert.Equal(t, "sys/bus/pci/devices/0000:01:00.0/sriov_numvfs", path)
				writes = append(writes, value)
				return tc.errno
			})
			err := h.SetNumVFs(t.Context(), mustAddress(t, "0000:01:00.0"), tc.want)
			assert.ErrorIs(t, err, tc.err)
			assert.Equal(t, tc.writes, writes)
		})
	}
	h := sriovtest.Generated(t, sriovtest.Spec{PFs: 1, VFs: 1})
	assert.ErrorIs(t, h.SetNumVFs(t.Context(), mustAddress(t, "0000:01:01.0"), 1), libsriov.ErrNotPF)
	assert.ErrorContains(t, h.SetNumVFs(t.Context(), mustAddress(t, "0000:01:00.0"), -1), "cannot be negative")
}

// A driver that does not return must not hold the caller beyond its deadline.
func TestSetNumVFsGivesUpWhenToldTo(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, sriovtest.Unpack(root, sriovtest.Generate(sriovtest.Spec{PFs: 1})))
	ctx, cancel := context.WithCancelCause(t.Context())
	release := make(chan struct{})
	defer close(release)
	impatient := errors.New("impatient")
	h := sriovtest.Refusing(root, func(string, string) error { cancel(impatient); <-release; return nil })
	err := h.SetNumVFs(ctx, mustAddress(t, "0000:01:00.0"), 8)
	require.ErrorIs(t, err, impatient)
	assert.ErrorContains(t, err, `write of "8" to `+root)
	assert.ErrorContains(t, err, "still under way")
}

// Writing to a tree is writing to files, so that a captured host can be changed.
func TestSetAutoprobe(t *testing.T) {
	t.Parallel()
	h := sriovtest.Generated(t, sriovtest.Spec{PFs: 1})
	pf := mustAddress(t, "0000:01:00.0")
	require.NoError(t, h.SetAutoprobe(t.Context(), pf, false))
	on, err := h.Autoprobe(pf)
	require.NoError(t, err)
	assert.False(t, on)
	_, err = h.Autoprobe(mustAddress(t, "0000:09:00.0"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}
