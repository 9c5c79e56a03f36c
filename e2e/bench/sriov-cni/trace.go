package main

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// countRequests runs a command and counts the messages that it sends on netlink
// sockets. Programs that it starts are not looked at.
func countRequests(cmd *exec.Cmd) (requests int, err error) {
	runtime.LockOSThread() // ptrace answers only the thread that started the child
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() { _ = cmd.Wait() }() // the child is reaped below
	pid := cmd.Process.Pid
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil {
		return 0, err
	}
	options := unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	if err := errors.Join(unix.PtraceSetOptions(pid, options), unix.PtraceSyscall(pid, 0)); err != nil {
		return 0, err
	}
	inside := map[int]bool{}     // threads between entry and exit of a system call
	sockets := map[uint64]bool{} // descriptors that are netlink sockets
	for {
		tid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return requests, fmt.Errorf("wait: %w", err)
		case ws.Exited() || ws.Signaled():
			if tid == pid {
				return requests, nil
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
