// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/vm"
)

// script is a program that says "begun" in the file it returns, and does the rest then.
func script(t *testing.T, rest string) (path, says string) {
	t.Helper()
	dir := t.TempDir()
	path, says = filepath.Join(dir, "program"), filepath.Join(dir, "says")
	text := "#!/bin/sh\ngrep SigIgn /proc/self/status >" + says + ".new; mv " + says + ".new " + says + "\n" + rest + "\n"
	require.NoError(t, os.WriteFile(path, []byte(text), 0o700))
	return path, says
}

// await returns what a script says.
func await(t *testing.T, says string) string {
	t.Helper()
	require.Eventually(t, func() bool { _, err := os.Stat(says); return err == nil }, time.Minute, 10*time.Millisecond)
	text, err := os.ReadFile(says)
	require.NoError(t, err)
	return string(text)
}

// TestShellTakesInterrupts: what is started from the shell beside a cluster ends by Ctrl-C,
// which a signal that is ignored where the shell starts would not let it.
func TestShellTakesInterrupts(t *testing.T) {
	shell, says := script(t, "exit 3")
	t.Setenv("SHELL", shell)
	require.NoError(t, beside(t.Context(), nil, os.Environ(), nil), "the status of a shell says nothing")
	mask := strings.Fields(await(t, says))[1]
	require.Contains(t, "014589cd", mask[len(mask)-1:], "SIGINT, bit 1 of SigIgn %s, is not ignored", mask)
}

// TestShellEndsWithLab: a signal to lab alone takes the shell, and with it the cluster, down.
func TestShellEndsWithLab(t *testing.T) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGTERM) // so that it never ends the test
	defer signal.Stop(caught)
	shell, says := script(t, "exec sleep 1000")
	t.Setenv("SHELL", shell)
	done := make(chan error, 1)
	go func() { done <- beside(t.Context(), nil, os.Environ(), nil) }()
	await(t, says)
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
	require.Error(t, <-done)
}

func TestCommandEndsWithLab(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	program, says := script(t, "exec sleep 1000")
	done := make(chan error, 1)
	go func() { done <- beside(ctx, nil, os.Environ(), []string{program}) }()
	await(t, says)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)

	var exit *vm.ExitError
	require.ErrorAs(t, beside(t.Context(), nil, os.Environ(), []string{"sh", "-c", "exit 7"}), &exit)
	require.Equal(t, 7, exit.Status)
	require.ErrorAs(t, beside(t.Context(), nil, os.Environ(), []string{"sh", "-c", "kill -9 $$"}), &exit)
	require.Equal(t, 137, exit.Status)
}
