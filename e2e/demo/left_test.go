// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLeft(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pace.json")
	require.Empty(t, readPace(path).left([]string{"build"}), "no run yet")
	require.NoError(t, pace{"build": 150 * time.Second, "pods": 20 * time.Second}.write(path))
	last := readPace(path)
	require.Equal(t, " (about 3 min to go, by the last run)", last.left([]string{"build", "pods"}))
	require.Equal(t, " (about 20 s to go, by the last run)", last.left([]string{"pods"}))
	require.Empty(t, last.left([]string{"pods", "a step of a newer version"}))
	require.NoError(t, os.WriteFile(path, []byte(`{"build": "long"}`), 0o600))
	require.Empty(t, readPace(path).left([]string{"build"}))
}
