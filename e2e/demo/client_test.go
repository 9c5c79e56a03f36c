// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	ossignal "os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTakeLock(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "demo")
	first, err := takeLock(dir)
	require.NoError(t, err)
	_, err = takeLock(dir)
	require.ErrorIs(t, err, errRunning)
	require.NoError(t, os.RemoveAll(dir), "as a demo that goes does, before it lets go of the lock")
	second, err := takeLock(dir)
	require.NoError(t, err, "the lock is another file by now")
	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
	third, err := takeLock(dir)
	require.NoError(t, err)
	require.NoError(t, third.Close())
}

// standIn makes this program a supervisor whose cluster is never ready.
const standIn = "SRIOVKIT_TEST_SUPERVISOR"

func TestMain(m *testing.M) {
	if os.Getenv(standIn) == "" {
		os.Exit(m.Run())
	}
	over := make(chan os.Signal, 1)
	ossignal.Notify(over, syscall.SIGTERM)
	_, err := os.NewFile(3, "progress").WriteString("begun\n")
	<-over
	if err = errors.Join(err, os.RemoveAll(os.Args[len(os.Args)-1])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestInterruptedLaunch: whatever the supervisor has come to, Down finds and ends it, and
// a second demo beside it leaves it alone.
func TestInterruptedLaunch(t *testing.T) {
	t.Setenv("SRIOVKIT_CACHE", t.TempDir())
	t.Setenv(standIn, "1")
	dir, err := Dir()
	require.NoError(t, err)
	for name, when := range map[string]func(cancel func()) io.Writer{
		"at once":          func(cancel func()) io.Writer { cancel(); return io.Discard },
		"when it is there": func(cancel func()) io.Writer { return writer(func() { cancel() }) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := launch(ctx, dir, when(cancel))
		require.ErrorIs(t, err, context.Canceled, name)
		_, err = launch(t.Context(), dir, io.Discard)
		require.ErrorIs(t, err, errRunning, name)
		supervisor := pid(dir)
		require.DirExists(t, filepath.Join("/proc", supervisor), name)
		require.NoError(t, Down(io.Discard), name)
		require.Eventually(t, func() bool { // it lets go of its files before it has ended, and is a child of this process
			state, err := os.ReadFile(filepath.Join("/proc", supervisor, "stat"))
			return err != nil || strings.Contains(string(state), ") Z ")
		}, time.Minute, 5*time.Millisecond, name)
		require.NoDirExists(t, dir, name)
		cancel()
	}
}

// TestSuperviseByHand: a directory that is no demo's keeps what is in it.
func TestSuperviseByHand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kept := filepath.Join(dir, lockFile)
	require.NoError(t, os.WriteFile(kept, nil, 0o600))
	other, err := os.Create(filepath.Join(t.TempDir(), lockFile))
	require.NoError(t, err)
	defer other.Close()
	_, progress := io.Pipe()
	require.ErrorContains(t, Supervise(t.Context(), dir, io.Discard, progress, other), "is not the directory of a demo that is being started")
	require.FileExists(t, kept)
}

// writer calls something for what is written.
type writer func()

func (w writer) Write(p []byte) (int, error) { w(); return len(p), nil }

// Images of a demo are of one platform: make push is not to take them for those of make images.
func TestImagesToPushStay(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, "bin/images", (&Demo{}).imageDir())
}
