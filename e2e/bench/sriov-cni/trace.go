// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// trace runs a command and counts the messages that it sends on netlink sockets;
// at its end it reads how much memory it had at most. Programs that it starts are
// not looked at. (The rusage of a short process tells its parent's memory, from
// before exec.)
func trace(cmd *exec.Cmd) (requests int, peak int64, err error) {
	runtime.LockOSThread() // ptrace answers only the thread that started the child
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() { _ = cmd.Wait() }() // the child is reaped below
	pid := cmd.Process.Pid
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil {
		return 0, 0, err
	}
	options := unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	if err := errors.Join(unix.PtraceSetOptions(pid, options), unix.PtraceSyscall(pid, 0)); err != nil {
		return 0, 0, err
	}
	inside := map[int]bool{}     // threads between entry and exit of a system call
	sockets := map[uint64]bool{} // descriptors that are netlink sockets
	for {
		tid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return requests, peak, fmt.Errorf("wait: %w", err)
		case ws.Exited() || ws.Signaled():
			if tid == pid {
				return requests, peak, nil
			}
			continue
		}
		signal := 0
		switch s := ws.StopSignal(); s {
		case unix.SIGTRAP | 0x80:
			inside[tid] = !inside[tid]
			var regs unix.PtraceRegs
			if unix.PtraceGetRegs(tid, &regs) != nil {
				break
			}
			switch entry := inside[tid]; {
			case entry && regs.Orig_rax == unix.SYS_EXIT_GROUP:
				peak = peakMemory(pid)
			case !entry && regs.Orig_rax == unix.SYS_SOCKET:
				sockets[regs.Rax] = regs.Rdi == unix.AF_NETLINK
			case entry && (regs.Orig_rax == unix.SYS_SENDTO || regs.Orig_rax == unix.SYS_SENDMSG) && sockets[regs.Rdi]:
				requests++
			}
		case unix.SIGTRAP, unix.SIGSTOP: // a clone, and the new thread's start
		default:
			signal = int(s)
		}
		_ = unix.PtraceSyscall(tid, signal) // the thread may have been killed meanwhile
	}
}

// peakMemory is a process's largest resident set so far, in bytes (VmHWM in
// proc(5)); 0 if the kernel does not tell.
func peakMemory(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}
