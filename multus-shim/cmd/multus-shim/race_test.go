// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/internal/mounttest"
)

// underDetector reports whether this program runs under the race detector.
func underDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// undetected is the environment variable with the path of this test program without the race
// detector. Under it a process takes three times the time to start, and these tests start
// thousands: delegates, in which it has nothing to find, and the plugin where it does one
// thing at a time. See detect.
const undetected = "MULTUS_SHIM_TEST_UNDETECTED"

// runTests is m.Run with processes that start fast.
func runTests(m *testing.M) int {
	if underDetector() && os.Getenv(undetected) == "" {
		dir, err := os.MkdirTemp("", "multus-shim-test")
		if err == nil {
			defer os.RemoveAll(dir)
			err = buildUndetected(filepath.Join(dir, "undetected"))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "all processes run under the race detector, and slowly:", err)
		}
	}
	return mounttest.Run(m)
}

func buildUndetected(path string) error {
	build := exec.Command("go", "test", "-c", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return os.Setenv(undetected, path)
}

// program is what plugin and delegates of a test are.
func program(t testing.TB) string {
	if path := os.Getenv(undetected); path != "" {
		return path
	}
	return thisProgram(t)
}

func thisProgram(t testing.TB) string {
	self, err := os.Executable()
	require.NoError(t, err)
	return self
}

// detect runs the plugin under the race detector, if there is one: in tests that have
// it do several things at once, such as requests, waiting, or ending its delegates.
func (e *env) detect() {
	path := filepath.Join(e.dir, "bin", "multus-shim")
	require.NoError(e.t, os.Remove(path))
	require.NoError(e.t, os.Symlink(thisProgram(e.t), path))
}

// memoryLimit is a limit in KiB for a program that this test starts. The race detector
// takes many times the memory, and the kernel counts what a program had before it was
// started anew (getrusage(2): ru_maxrss is kept over execve).
func memoryLimit(kib int64) int64 {
	if underDetector() {
		return 20 * kib
	}
	return kib
}
