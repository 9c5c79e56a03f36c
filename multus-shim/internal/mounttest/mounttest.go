// SPDX-License-Identifier: Apache-2.0

// Package mounttest keeps the mounts of tests away from the machine: they are in a mount
// namespace that ends with the test program, however that ends.
package mounttest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside marks the process that has the namespace.
const inside = "MULTUS_SHIM_TEST_MOUNTS"

// Run is m.Run in a mount namespace of its own. It returns the exit status. Without the
// right to make one (CAP_SYS_ADMIN) the tests run where they are.
func Run(m *testing.M) int {
	if os.Getenv(inside) != "" {
		return m.Run()
	}
	// Mounts are a thread's, and Go has several: another process begins with the namespace.
	// It is killed when this thread ends, which is the one that ends last.
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "no mount namespace for the tests:", err)
		return m.Run()
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() < 0 {
		fmt.Fprintln(os.Stderr, "tests:", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}
