// SPDX-License-Identifier: Apache-2.0

package attached

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is not there, and what never can be, keeps no pod from ending.
func TestRemoveWhatIsNotThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, uid := range []string{"", ".", "..", "a/b", "a\x00b", "none", strings.Repeat("u", 250), strings.Repeat("u", 5000)} {
		require.NoError(t, Remove(dir, uid, "c", []string{"net1"}), uid)
		require.NoError(t, Remove(filepath.Join(dir, "no directory"), uid, "c", []string{"net1"}), uid)
		require.NoError(t, Remove(file, uid, "c", []string{"net1"}), uid)
	}
}

func TestRemoveKeepsWhatIsOfOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, Write(dir, File{PodUID: "u", ContainerID: "c", Attachments: []Attachment{{Interface: "net1"}, {Interface: "net2"}}}))
	require.NoError(t, Remove(dir, "u", "another sandbox", []string{"net1"}))
	require.NoError(t, Remove(dir, "u", "c", []string{"net1"}))
	f, err := read(filepath.Join(dir, "u.json"))
	require.NoError(t, err)
	assert.Equal(t, []Attachment{{Interface: "net2"}}, f.Attachments)
	require.NoError(t, Remove(dir, "u", "c", []string{"net2"}))
	assert.NoFileExists(t, filepath.Join(dir, "u.json"))

	// Cut by the end of the machine: nothing of it can be read, and its pod ends.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "u.json"), []byte(`{"version"`), 0o600))
	require.NoError(t, Remove(dir, "u", "c", []string{"net1"}))
	assert.NoFileExists(t, filepath.Join(dir, "u.json"))
}
