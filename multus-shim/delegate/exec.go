// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

var (
	errDeadline = errors.New("deadline")
	// errNotStarted: the plugin has done nothing. Its binary is for another architecture, its
	// interpreter is missing, the system is out of processes.
	errNotStarted = errors.New("cannot be started")
)

const (
	// stderrTail is how much of a plugin's stderr an error carries, bytes.
	stderrTail = 1024
	// maxStdout bounds what a plugin may print, bytes.
	maxStdout = 16 << 20
	// busyRetry is the pause before a binary that is being written is tried
	// again; installers that copy in place keep it busy for a moment.
	busyRetry = 20 * time.Millisecond
)

// run executes one plugin. The process and its children form a group that is killed as a whole
// when ctx ends, and the kernel kills the plugin when this process ends: a plugin must not
// work on while the runtime already sends DEL.
func run(ctx context.Context, path string, stdin []byte, env []string) ([]byte, error) {
	for {
		out, err := runOnce(ctx, path, stdin, env)
		if !errors.Is(err, syscall.ETXTBSY) {
			return out, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(busyRetry):
		}
	}
}

// runOnce gives the plugin files in memory for its three streams. Unlike pipes
// they need no goroutine each, and a process that the plugin leaves behind with
// one of them open keeps nobody waiting.
func runOnce(ctx context.Context, path string, stdin []byte, env []string) (_ []byte, err error) {
	var streams [3]uintptr
	for i, name := range []string{"stdin", "stdout", "stderr"} {
		fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("plugin %s: %s: %w", filepath.Base(path), name, err)
		}
		defer unix.Close(fd)
		streams[i] = uintptr(fd)
	}
	for at := 0; at < len(stdin); {
		n, err := unix.Pwrite(int(streams[0]), stdin[at:], int64(at))
		if err != nil {
			return nil, fmt.Errorf("plugin %s: stdin: %w", filepath.Base(path), err)
		}
		at += n
	}
	runErr := start(ctx, path, env, streams[:])
	stdout, err := content(int(streams[1]), maxStdout)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: stdout: %w", filepath.Base(path), err)
	}
	if runErr == nil {
		return stdout, nil
	}
	stderr, err := content(int(streams[2]), maxStdout)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: stderr: %w", filepath.Base(path), err)
	}
	return nil, failure(ctx, path, runErr, stdout, string(stderr[max(0, len(stderr)-stderrTail):]))
}

// start runs the plugin to its end. The package os/exec would do; it forks once more to
// see what the kernel can do and starts a goroutine for each process, which is a
// twentieth of the CPU time of an ADD.
func start(ctx context.Context, path string, env []string, streams []uintptr) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// The kernel sends Pdeathsig when the thread that forked ends: it has to live as long as
	// the plugin.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{
		Env: env, Files: streams, Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errNotStarted, &os.PathError{Op: "fork/exec", Path: path, Err: err})
	}
	killed := make(chan struct{})
	leave := context.AfterFunc(ctx, func() {
		_ = syscall.Kill(-pid, syscall.SIGKILL) // the only error is that nobody is left
		close(killed)
	})
	// The process keeps its number until it is reaped, so that nobody else is killed.
	err = ignoringEINTR(func() error { return unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) })
	if !leave() {
		<-killed
	}
	var status syscall.WaitStatus
	reapErr := ignoringEINTR(func() error { _, err := syscall.Wait4(pid, &status, 0, nil); return err })
	if err := errors.Join(err, reapErr); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if status != 0 {
		return exitError(status)
	}
	return nil
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// exitError is an end other than exit status 0.
type exitError syscall.WaitStatus

func (e exitError) Error() string {
	status := syscall.WaitStatus(e)
	if status.Signaled() {
		return "signal: " + status.Signal().String()
	}
	return "exit status " + strconv.Itoa(status.ExitStatus())
}

// content reads a stream from its start.
func content(stream int, limit int64) ([]byte, error) {
	var info unix.Stat_t
	if err := unix.Fstat(stream, &info); err != nil {
		return nil, err
	}
	if info.Size > limit {
		return nil, fmt.Errorf("%d bytes are more than the %d that make sense", info.Size, limit)
	}
	data := make([]byte, info.Size)
	for at := 0; at < len(data); {
		n, err := unix.Pread(stream, data[at:], int64(at))
		if err != nil {
			return nil, err
		}
		if n == 0 { // cut by a process that the plugin left behind
			return data[:at], nil
		}
		at += n
	}
	return data, nil
}

// failure tells apart an error the plugin reported, a deadline and a crash.
func failure(ctx context.Context, path string, err error, stdout []byte, stderr string) error {
	name := filepath.Base(path)
	if cause := context.Cause(ctx); cause != nil {
		return withStderr(fmt.Errorf("plugin %s: killed at the %w", name, cause), stderr)
	}
	var exit exitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("plugin %s: %w", name, err)
	}
	var reported types.Error
	if json.Unmarshal(stdout, &reported) == nil && (reported.Code != 0 || reported.Msg != "") {
		return fmt.Errorf("plugin %s: %w", name, &reported)
	}
	return withStderr(fmt.Errorf("plugin %s: %w without a CNI error on stdout", name, err), stderr)
}

func withStderr(err error, stderr string) error {
	if stderr = strings.TrimSpace(stderr); stderr == "" {
		return err
	}
	return fmt.Errorf("%w; stderr: %s", err, stderr)
}
