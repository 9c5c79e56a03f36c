// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/stage"
)

// TestInstallInterrupted stops an installation: apt-get ends by itself, with nothing half done.
func TestInstallInterrupted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, as installing does")
	}
	bin := t.TempDir()
	begun, over := filepath.Join(bin, "begun"), filepath.Join(bin, "over")
	for name, text := range map[string]string{
		"dpkg-query": "exit 1",
		"apt-get":    "trap 'sleep 0.3; touch " + over + "; exit 1' INT; touch " + begun + "; while :; do sleep 0.01; done",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o700))
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	cache := &stage.Cache{Dir: t.TempDir(), Log: io.Discard}
	require.NoError(t, os.Mkdir(filepath.Join(cache.Dir, "locks"), 0o755))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(begun); err == nil {
				cancel()
			}
		}
	}()
	require.ErrorContains(t, (&Archive{}).Install(ctx, cache, "a-package"), "apt-get install a-package")
	require.FileExists(t, over)
}
