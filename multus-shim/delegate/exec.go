// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

var errDeadline = errors.New("deadline")

const (
	// stderrTail is how much of a plugin's stderr an error carries, bytes.
	stderrTail = 1024
	// maxStdout bounds what a plugin may print, bytes.
	maxStdout = 16 << 20
	// busyRetry is the pause before a binary that is being written is tried
	// again; installers that copy in place keep it busy for a moment.
	busyRetry = 20 * time.Millisecond
)

// run executes one plugin. The process and its children form a group that is
// killed as a whole when ctx ends, and the kernel kills the plugin when we die:
// a plugin must not work on while the runtime already sends DEL.
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
	var streams [3]*os.File
	for i, name := range []string{"stdin", "stdout", "stderr"} {
		fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("plugin %s: %s: %w", filepath.Base(path), name, err)
		}
		streams[i] = os.NewFile(uintptr(fd), name)
		defer streams[i].Close()
	}
	if _, err := streams[0].WriteAt(stdin, 0); err != nil {
		return nil, err
	}
	// Pdeathsig follows the thread that forks; it must not end before us.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = streams[0], streams[1], streams[2], env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return os.ErrProcessDone
	}
	runErr := cmd.Run()
	stdout, err := content(streams[1], maxStdout)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: stdout: %w", filepath.Base(path), err)
	}
	if runErr == nil {
		return stdout, nil
	}
	stderr, err := content(streams[2], maxStdout)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: stderr: %w", filepath.Base(path), err)
	}
	return nil, failure(ctx, path, runErr, stdout, string(stderr[max(0, len(stderr)-stderrTail):]))
}

// content reads a stream from its start.
func content(stream *os.File, limit int64) ([]byte, error) {
	info, err := stream.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%d bytes are more than the %d that make sense", info.Size(), limit)
	}
	data := make([]byte, info.Size())
	_, err = stream.ReadAt(data, 0)
	return data, err
}

// failure tells apart an error the plugin reported, a deadline and a crash.
func failure(ctx context.Context, path string, err error, stdout []byte, stderr string) error {
	name := filepath.Base(path)
	if cause := context.Cause(ctx); cause != nil {
		return withStderr(fmt.Errorf("plugin %s: killed at the %w", name, cause), stderr)
	}
	var exit *exec.ExitError
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
