package delegate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

var errDeadline = errors.New("deadline")

const (
	// stderrTail is how much of a plugin's stderr an error carries, bytes.
	stderrTail = 1024
	// pipeGrace is how long we read on after a plugin's exit when a process it
	// left behind keeps its stdout open.
	pipeGrace = time.Second
	// busyRetry is the pause before a binary that is being written is tried
	// again; installers that copy in place keep it busy for a moment.
	busyRetry = 20 * time.Millisecond
)

// run executes one plugin. The process and its children form a group that is
// killed as a whole when ctx ends, and the kernel kills the plugin when we die:
// a plugin must not work on while the runtime already sends DEL. The caller's
// goroutine must be locked to the main thread for that (Pdeathsig follows the
// thread).
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

func runOnce(ctx context.Context, path string, stdin []byte, env []string) ([]byte, error) {
	var stdout bytes.Buffer
	stderr := tail{limit: stderrTail}
	cmd := exec.CommandContext(ctx, path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = bytes.NewReader(stdin), &stdout, &stderr, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipeGrace
	err := cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() {
		return stdout.Bytes(), nil
	}
	return nil, failure(ctx, path, err, stdout.Bytes(), stderr.String())
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

// tail keeps the last bytes written to it.
type tail struct {
	limit int
	buf   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.limit; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.buf) }
