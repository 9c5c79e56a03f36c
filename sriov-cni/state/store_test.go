// SPDX-License-Identifier: Apache-2.0

package state

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Which files there are tells whether the journal counts: after each point at
// which an ADD or a DEL of this plugin may end or be killed it does, after the
// other plugin's DEL it does not.
func TestJournalOutOfDate(t *testing.T) {
	t.Parallel()
	const ours, theirs = `{"sriovkit":{"version":1}}`, `{"deviceID":"0000:af:06.0"}`
	own := exampleJournal().NetNS.Path
	for name, tc := range map[string]struct {
		committed bool
		marker    string
		record    string
		outdated  bool
	}{
		"ADD before its record":                 {},
		"ADD after its record":                  {record: ours},
		"ADD before its marker":                 {committed: true, record: ours},
		"ADD done":                              {committed: true, record: ours, marker: own},
		"record lost":                           {committed: true, marker: own},
		"record damaged":                        {committed: true, marker: own, record: ours[:9]},
		"DEL after the marker":                  {committed: true, record: ours},
		"their DEL":                             {committed: true, outdated: true},
		"their DEL, which failed":               {committed: true, marker: own},
		"their DEL, and ADD for another pod":    {committed: true, marker: "/run/netns/c2", outdated: true},
		"their DEL, and ADD for the same pod":   {committed: true, marker: own, record: theirs, outdated: true},
		"their ADD for another pod, DEL failed": {marker: "/run/netns/c2", outdated: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Store{Dir: t.TempDir()}
			want := exampleJournal()
			require.NoError(t, Save(s.JournalPath(want.Device), want))
			if tc.committed {
				require.NoError(t, s.Commit(want.Device))
				want.Committed = true
			}
			if tc.record != "" {
				require.NoError(t, Write(s.RecordPath(want.Owner), []byte(tc.record)))
			}
			got, err := s.LoadJournal(want.Device, tc.marker)
			if tc.marker != "" {
				require.NoError(t, Write(s.MarkerPath(want.Device), []byte(tc.marker)))
			}
			require.NoError(t, s.DropOutdated(want.Device))
			if tc.outdated {
				assert.ErrorIs(t, err, fs.ErrNotExist)
				assert.Equal(t, Journal{}, got)
				assert.NoFileExists(t, s.JournalPath(want.Device))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, want, got)
			_, err = os.Stat(s.JournalPath(want.Device))
			assert.NoError(t, err)
		})
	}
}

// A FIFO has nobody wait, a device without end fills no memory: whatever has the place of a
// file is a damaged one.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	s := Store{Dir: t.TempDir()}
	fifo, zero := filepath.Join(s.Dir, "fifo"), filepath.Join(s.Dir, "zero")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	require.NoError(t, os.Symlink("/dev/zero", zero))
	socket, dir := filepath.Join(s.Dir, "socket"), filepath.Join(s.Dir, "dir")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, os.Mkdir(dir, 0o700))
	for _, path := range []string{fifo, zero, socket, dir} {
		_, err := s.Record(path)
		require.ErrorIs(t, err, ErrDamaged, path)
	}
	a := exampleJournal().Device
	require.NoError(t, os.MkdirAll(s.MarkerPath(a), 0o700))
	marker, err := s.Marker(a)
	require.NoError(t, err)
	require.NotEmpty(t, marker)
	require.False(t, filepath.IsAbs(marker))
	require.NoError(t, Remove(s.MarkerPath(a), dir))
	require.False(t, Exists(s.MarkerPath(a)) || Exists(dir))
}
