// SPDX-License-Identifier: Apache-2.0

// Package process runs the programs of a test environment so that none of them
// outlives it, whatever ends the harness: return, panic, Ctrl-C or SIGKILL.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Start is cmd.Start, except that the kernel kills the program when this process
// dies, and that the program begins in network namespace netns unless that is nil.
//
// PR_SET_PDEATHSIG fires when the thread that forked ends, and the Go runtime
// ends threads at will. The fork therefore happens on a thread of its own that
// stays until the program has exited.
func Start(cmd *exec.Cmd, netns *os.File) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := startIn(cmd, netns)
		started <- err
		if err == nil {
			for { // WNOWAIT leaves the exit status to cmd.Wait
				err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
				if !errors.Is(err, unix.EINTR) {
					break
				}
			}
		}
		if home {
			runtime.UnlockOSThread() // else the thread ends with this goroutine
		}
	}()
	return <-started
}

// startIn starts a program in a namespace; home is whether the thread is back in its own. If
// the program's first thread, which never ends, stayed there, so would the namespace.
func startIn(cmd *exec.Cmd, netns *os.File) (home bool, err error) {
	if netns == nil {
		return true, cmd.Start()
	}
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return true, err
	}
	defer own.Close()
	if err := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); err != nil {
		return true, fmt.Errorf("enter network namespace: %w", err)
	}
	err = cmd.Start()
	return unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil, err
}

// graceTime is what an interrupted program has to remove its temporary files: on a busy machine
// mmdebstrap takes more than three seconds for its root.
const graceTime = 30 * time.Second

// Interruptible makes a program of exec.CommandContext, and all that it starts, be interrupted
// when its context is done. What is left of it after a while is killed. Killed at once, go
// build leaves its directory in /tmp.
func Interruptible(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = graceTime
}

// Daemon is a long-running program whose output goes to a file.
type Daemon struct {
	Name    string
	LogPath string

	cmd    *exec.Cmd
	exited chan struct{}
	err    error // valid once exited is closed
}

// StartDaemon starts cmd with stdout and stderr in logDir/name.log.
func StartDaemon(name, logDir string, cmd *exec.Cmd, netns *os.File) (*Daemon, error) {
	d := &Daemon{Name: name, LogPath: filepath.Join(logDir, name+".log"), cmd: cmd, exited: make(chan struct{})}
	log, err := os.Create(d.LogPath)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the program has its own copy
	cmd.Stdout, cmd.Stderr = log, log
	if err := Start(cmd, netns); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		d.err = cmd.Wait()
		close(d.exited)
	}()
	return d, nil
}

// Exited is closed when the program has ended.
func (d *Daemon) Exited() <-chan struct{} { return d.exited }

// Err describes an exit nobody asked for, with the end of the log.
func (d *Daemon) Err() error {
	<-d.exited
	cause := d.err
	if cause == nil {
		cause = errors.New("exit status 0")
	}
	return fmt.Errorf("%s ended: %w\n%s", d.Name, cause, Tail(d.LogPath))
}

// Kill ends the program at once and returns when it is gone.
func (d *Daemon) Kill() {
	d.cmd.Process.Kill() //nolint:errcheck // gone already is fine
	<-d.exited
}
