// SPDX-License-Identifier: Apache-2.0

package record

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A name that comes for good, or goes, is brought to the disk once it has come or gone.
func TestNamesAreSynced(t *testing.T) { //nolint:paralleltest // replaces syncDir
	root := t.TempDir()
	s := Store{Dir: filepath.Join(root, "claims")}
	var synced []string
	toDisk := syncDir
	t.Cleanup(func() { syncDir = toDisk })
	syncDir = func(dir string) error {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		seen := filepath.Base(dir) + ":"
		for _, e := range entries {
			seen += " " + e.Name()
		}
		synced = append(synced, seen)
		return toDisk(dir)
	}
	require.NoError(t, s.Save(Claim{UID: "1"}))
	require.NoError(t, s.Save(Claim{UID: "1", Prepared: true}))
	require.NoError(t, s.Remove("1"))
	require.NoError(t, s.Remove("1"))
	require.Equal(t, []string{filepath.Base(root) + ": claims", "claims: 1.json", "claims:"}, synced)
}
