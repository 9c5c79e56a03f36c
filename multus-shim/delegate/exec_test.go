// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// script installs a plugin that is a shell script.
func script(t *testing.T, text string) (Runner, Attachment) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "plugin"), []byte("#!/bin/sh\n"+text), 0o755))
	return Runner{Path: []string{dir}, Timeout: time.Hour},
		Attachment{Name: "n", Ifname: "net1", CNIVersion: "1.0.0", Plugins: []json.RawMessage{json.RawMessage(`{"type":"plugin"}`)}}
}

// What a plugin started goes with it at the deadline, and the error has what it said. The
// deadline comes when the plugin has told that all of it is there, not by a clock.
func TestDeadlineKillsTheGroup(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "pid")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	r, a := script(t, "echo about to hang >&2; sleep 1000 & echo $! >"+fifo+"; wait")
	ctx, end := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, _, err := r.Add(ctx, Container{ID: "c"}, a)
		done <- err
	}()
	text, err := os.ReadFile(fifo) // waits for the writer, and for its end
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	child, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	defer unix.Close(child)
	end(fmt.Errorf("%w of today", errDeadline))
	assert.EqualError(t, <-done, "plugin plugin: killed at the deadline of today; stderr: about to hang")
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(child), Events: unix.POLLIN}}, -1) // readable when it has ended
		if err == unix.EINTR {
			continue
		}
		require.NoError(t, err)
		require.Equal(t, 1, n)
		return
	}
}

// The deadline is that of the configuration.
func TestDeadlineIsNamed(t *testing.T) {
	t.Parallel()
	r, a := script(t, "sleep 1000")
	r.Timeout = time.Millisecond
	_, _, err := r.Add(t.Context(), Container{ID: "c"}, a)
	require.EqualError(t, err, "plugin plugin: killed at the deadline of 1ms")
	require.ErrorContains(t, r.Del(t.Context(), Container{ID: "c"}, a, nil), "killed at the deadline of 1ms")
}

// A plugin sees each variable once, whatever the runtime's environment has.
func TestEnvironment(t *testing.T) {
	t.Setenv("CNI_IFNAME", "of the runtime")
	t.Setenv("CNI_IFNAME_", "kept")
	r, a := script(t, `[ "$(tr '\0' '\n' </proc/$$/environ | grep -c ^CNI_IFNAME=)" = 1 ] || exit 3
echo "{\"cniVersion\":\"1.0.0\",\"dns\":{\"domain\":\"$CNI_IFNAME $CNI_IFNAME_ $CNI_COMMAND\"}}"`)
	out, _, err := r.Add(t.Context(), Container{ID: "c"}, a)
	require.NoError(t, err)
	assert.Contains(t, string(out), `"net1 kept ADD"`)
}

// How a plugin ended is in the error, and its output.
func TestEnds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"echo oops >&2; exit 3": "plugin plugin: exit status 3 without a CNI error on stdout; stderr: oops",
		"kill -9 $$":            "plugin plugin: signal: killed without a CNI error on stdout",
		"kill -SEGV $$":         "plugin plugin: signal: segmentation fault without a CNI error on stdout",
	} {
		r, a := script(t, text)
		_, _, err := r.Add(t.Context(), Container{ID: "c"}, a)
		assert.EqualError(t, err, want)
	}
	r, a := script(t, "")
	require.NoError(t, os.WriteFile(filepath.Join(r.Path[0], "plugin"), []byte("\x7fELF"), 0o755))
	_, _, err := r.Add(t.Context(), Container{ID: "c"}, a)
	require.ErrorContains(t, err, "exec format error")
}

// No plugin is started for a command whose time is over.
func TestTooLate(t *testing.T) {
	t.Parallel()
	r, a := script(t, "touch $(dirname $0)/started")
	ctx, end := context.WithCancelCause(t.Context())
	end(errDeadline)
	_, _, err := r.Add(ctx, Container{ID: "c"}, a)
	require.ErrorContains(t, err, "killed at the deadline")
	require.NoFileExists(t, filepath.Join(r.Path[0], "started"))
}
