// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// onDisk puts the state directory on a file system of its own.
func (e *env) onDisk(options string) {
	e.t.Helper()
	require.NoError(e.t, os.MkdirAll(e.in(), 0o700))
	require.NoError(e.t, unix.Mount("tmpfs", e.in(), "tmpfs", 0, options))
	e.t.Cleanup(func() { _ = unix.Unmount(e.in(), unix.MNT_DETACH) })
}

// open are the interfaces that were added and not deleted since.
func open(calls []invocation) map[string]bool {
	left := map[string]bool{}
	for _, c := range calls {
		switch c.Command {
		case "ADD":
			left[c.Ifname] = true
		case "DEL":
			delete(left, c.Ifname)
		}
	}
	return left
}

// A disk that is full from any point on: an ADD that does not succeed leaves nothing
// attached that the DEL after it, with room again, does not find.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"size=%dk", "nr_inodes=%d"} {
		full, served := 0, 0
		for room := 4; served == 0; room += 4 {
			e := twoNetworks(t)
			e.nad("neta", `"large":"`+strings.Repeat("0", 6000)+`"`) // a record has several pages
			e.onDisk(fmt.Sprintf(kind, room))
			out := e.run("ADD")
			calls := e.calls()
			require.Less(t, room, 400, "%s: %v", kind, out.Err)
			if out.Err == nil {
				served = room
			} else {
				full++
				assert.Contains(t, out.Err.Msg, "no space left on device", "%s, %d", kind, room)
			}
			require.NoError(t, unix.Mount("tmpfs", e.in(), "tmpfs", unix.MS_REMOUNT, "size=10m,nr_inodes=1000"))
			e.must("DEL")
			assert.Empty(t, open(append(calls, e.calls()...)), "%s, %d", kind, room)
			assert.Empty(t, e.leftovers())
		}
		assert.Positive(t, full, kind)
	}
}

// A disk that cannot be written any more: nothing is attached, detached or collected
// until it can, and the error says why.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.onDisk("size=10m")
	e.must("ADD")
	e.container = "c2"
	e.must("ADD")
	e.calls()
	require.NoError(t, unix.Mount("", e.in(), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))

	e.container = "c3"
	e.mustFail("ADD", 11, "read-only file system")
	assert.Empty(t, e.calls())
	e.container = "c2"
	out := e.run("DEL")
	require.NotNil(t, out.Err)
	assert.Contains(t, out.Err.Msg, "read-only file system")
	assert.Empty(t, e.calls())
	e.gc("c1")
	for _, c := range e.calls() {
		assert.Equal(t, "GC", c.Command)
	}

	require.NoError(t, unix.Mount("", e.in(), "", unix.MS_REMOUNT, ""))
	e.must("DEL")
	assert.Equal(t, []string{"DEL net2", "DEL net1", "DEL eth0"}, names(e.calls()))
	e.container = "c1"
	e.must("CHECK")
	e.must("DEL")
	assert.Empty(t, e.leftovers())
	assert.NoFileExists(t, filepath.Join(e.in("records"), "c1.json"))
}
