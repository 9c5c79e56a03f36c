// SPDX-License-Identifier: Apache-2.0

package state

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRecordNames(t *testing.T) {
	t.Parallel()
	s := Store{Dir: t.TempDir()}
	hex := strings.Repeat("c0", 32)
	assert.Equal(t, s.Dir+"/"+hex+"-net1", s.RecordPath(Attachment{hex, "net1"}), "the other plugin's name")
	assert.Equal(t, s.Dir+"/"+hex+"-net-1", s.RecordPath(Attachment{hex, "net-1"}))

	// No two attachments share a file, and every file can be made.
	seen := map[string]Attachment{}
	for _, a := range []Attachment{
		{"x-y", "z"}, {"x", "y-z"}, {"x-y", "z-w"}, {"x", "y-z-w"}, {"x-y-z", "w"}, {strings.Repeat("a", 300), "net1"}, {strings.Repeat("a", 300), "net2"}, {strings.Repeat("b", 234), "net1"},
		{strings.Repeat("b", 250), "net1"},
	} {
		path := s.RecordPath(a)
		require.NotContains(t, seen, path, "%v", a)
		seen[path] = a
		require.NoError(t, Write(path, []byte(`{"name":"n","deviceID":"0000:af:06.0","sriovkit":{"version":1,"owner":{"containerID":"`+a.ContainerID+`","ifname":"`+a.IfName+`"}}}`)))
		require.NoError(t, Write(path, []byte(`{"name":"n","deviceID":"0000:af:06.0","sriovkit":{"version":1,"owner":{"containerID":"`+a.ContainerID+`","ifname":"`+a.IfName+`"}}}`)), "replaced")
		require.Equal(t, path, s.RecordPath(a), "the file being there changes nothing")
	}
	all, err := s.Records()
	require.NoError(t, err)
	require.Len(t, all, len(seen))
	for _, f := range all {
		assert.Equal(t, seen[f.Path], f.Owner)
	}

	// What the other plugin left under such a name is found.
	theirs := s.Dir + "/my-pod-net1"
	require.NoError(t, os.WriteFile(theirs, []byte(`{"deviceID":"0000:af:06.0"}`), 0o600))
	assert.Equal(t, theirs, s.RecordPath(Attachment{"my-pod", "net1"}))
}

// A marker that was cut off is damage, not another pod's.
func TestCutMarkerIsDamage(t *testing.T) {
	t.Parallel()
	j := exampleJournal()
	j.Committed = true
	for marker, outdated := range map[string]bool{
		j.NetNS.Path: false, j.NetNS.Path[:5]: false, "/": false, "\x00\x01": false, "/run/netns/other": true,
	} {
		s := Store{Dir: t.TempDir()}
		require.NoError(t, Save(s.RecordPath(j.Owner), map[string]any{"deviceID": j.Device, "sriovkit": map[string]any{"version": 1}}))
		assert.Equal(t, outdated, s.outdated(j, marker), "%q", marker)
	}
}
