// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// steps are the system calls after which the world is another one: a file, a
// directory, a line of a record or a process more or less. Between any two of them a crash
// leaves the same state.
func isStep(pid int, regs *syscall.PtraceRegs) bool {
	switch regs.Orig_rax {
	case unix.SYS_WRITE:
		path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, regs.Rdi))
		return err == nil && filepath.Base(filepath.Dir(path)) == "records"
	case unix.SYS_OPENAT:
		return regs.Rdx&unix.O_CREAT != 0
	case unix.SYS_MKDIRAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT, unix.SYS_FSYNC, unix.SYS_FTRUNCATE,
		unix.SYS_WAITID, unix.SYS_WAIT4:
		return true
	case unix.SYS_CLONE, unix.SYS_CLONE3:
		return regs.Rdi&unix.CLONE_VFORK != 0
	}
	return false
}

// killAtStep runs a command and kills it where its n-th step begins. It says
// whether the command lived to see that many.
func killAtStep(cmd *exec.Cmd, n int) (killed bool, err error) {
	runtime.LockOSThread() // the tracer is a thread; it ends with the goroutine
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	leader := cmd.Process.Pid
	entering := map[int]bool{}
	steps := 0
	for first := true; ; first = false {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-leader, &status, unix.WALL, nil) // its group: its threads and nothing of other tests
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("wait: %w", err)
		}
		if status.Exited() || status.Signaled() {
			if pid == leader {
				_ = cmd.Process.Release()
				return killed, nil
			}
			continue
		}
		if first {
			if err := syscall.PtraceSetOptions(pid, syscall.PTRACE_O_TRACESYSGOOD|syscall.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
				return false, err
			}
		}
		deliver := 0
		switch signal := status.StopSignal(); signal {
		case syscall.SIGTRAP | 0x80:
			entering[pid] = !entering[pid]
			var regs syscall.PtraceRegs
			if !entering[pid] || syscall.PtraceGetRegs(pid, &regs) != nil || !isStep(pid, &regs) {
				break
			}
			if steps++; steps == n {
				killed = true
				if err := syscall.Kill(leader, syscall.SIGKILL); err != nil {
					return false, err
				}
				continue
			}
		case syscall.SIGTRAP, syscall.SIGSTOP:
		default:
			deliver = int(signal)
		}
		if err := syscall.PtraceSyscall(pid, deliver); err != nil && !errors.Is(err, syscall.ESRCH) {
			return false, err
		}
	}
}

func crash(t *testing.T, cmd *exec.Cmd, n int) bool {
	t.Helper()
	type result struct {
		killed bool
		err    error
	}
	done := make(chan result)
	go func() { killed, err := killAtStep(cmd, n); done <- result{killed, err} }()
	r := <-done
	require.NoError(t, r.err)
	return r.killed
}

// An ADD that is killed at any step leaves nothing that DEL does not find: all
// plugins that were started get their DEL, and no file stays.
func TestKilledAddThenDel(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.nad("neta", `"test":{"link":true}`)
	e.nad("netb", `"test":{"link":true}`)
	steps := 0
	for n := 1; ; n++ {
		if !crash(t, e.command("ADD", e.stdin(nil)), n) {
			break
		}
		steps++
		e.must("DEL")
		checkDeleted(t, e, fmt.Sprintf("killed at step %d", n))
	}
	assert.Greater(t, steps, 20, "the tracer sees the steps")
	e.must("DEL")
}

// A DEL that is killed at any step is finished by the next one.
func TestKilledDelThenDel(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	for n := 1; ; n++ {
		e.must("ADD")
		if !crash(t, e.command("DEL", e.stdin(nil)), n) {
			require.Greater(t, n, 10, "the tracer sees the steps")
			break
		}
		e.must("DEL")
		checkDeleted(t, e, fmt.Sprintf("killed at step %d", n))
	}
}

// checkDeleted: the last call for every interface that was added is a DEL.
func checkDeleted(t *testing.T, e *env, when string) {
	t.Helper()
	last := map[string]string{}
	for _, c := range e.calls() {
		last[c.Ifname] = c.Command
	}
	for ifname, command := range last {
		require.Equal(t, "DEL", command, "%s: %s", ifname, when)
	}
	require.Empty(t, e.leftovers(), when)
}
