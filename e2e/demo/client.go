// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/e2e/stage"
)

// closeTimeout is many times what taking a cluster down takes.
const closeTimeout = time.Minute

// Dir is where the running demo keeps its files.
func Dir() (string, error) {
	cache, err := stage.Open(io.Discard)
	if err != nil {
		return "", err
	}
	return filepath.Join(cache.Dir, "demo"), nil
}

// connect returns a connection to the supervisor, nil if there is none.
func connect(dir string) *rpc.Client {
	c, err := rpc.Dial("unix", filepath.Join(dir, socketFile))
	if err != nil {
		return nil
	}
	return c
}

// errRunning: the lock is held and nobody answers, so a demo is being started or taken
// down.
var errRunning = errors.New("another demo is being started or taken down; wait for that, or run make demo-down")

// takeLock makes the demo's directory and takes its lock, which is held as long as the file is
// open in any process. A demo that goes meanwhile takes both away.
func takeLock(dir string) (*os.File, error) {
	for {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		path := filepath.Join(dir, lockFile)
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				err = errRunning
			}
			return nil, err
		}
		mine, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(mine, there) {
			return f, nil
		}
		f.Close()
	}
}

// launch starts the supervisor, this program with the given arguments and the
// demo's directory, and returns when its cluster is ready. It shows its progress.
// The supervisor has the lock from its first moment on, so that Down finds it. An
// error that is errRunning is another demo's.
func launch(ctx context.Context, dir string, out io.Writer, args ...string) (*rpc.Client, error) {
	lock, err := takeLock(dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // the supervisor has its own copy
	log, err := os.Create(filepath.Join(dir, logFile))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	progress, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer progress.Close()
	program, err := os.Executable()
	if err == nil {
		cmd := exec.Command(program, append(args, dir)...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.ExtraFiles = []*os.File{theirs, lock}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is for the foreground, which then says what to do
		if err = cmd.Start(); err == nil {
			_, err = fmt.Fprintln(lock, cmd.Process.Pid)
		}
	}
	theirs.Close()
	lock.Close()
	if err != nil {
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { progress.Close() })
	defer stop()
	var text strings.Builder
	io.Copy(io.MultiWriter(out, &text), progress) //nolint:errcheck // ends when the supervisor is ready or gone, or ctx is done
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if c := connect(dir); c != nil {
		return c, nil
	}
	return nil, errors.New("the cluster did not start; the reason is above")
}

// Down takes a running demo down and returns when nothing of it is left. Without
// one it does nothing.
func Down(out io.Writer) error {
	dir, err := Dir()
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		fmt.Fprintln(out, "no demo is running")
		return nil
	}
	begun := time.Now()
	asked := false
	if c := connect(dir); c != nil {
		asked = c.Call("Demo.Down", struct{}{}, &struct{}{}) == nil
		c.Close()
	}
	if !asked { // it is starting, or hangs
		signal(dir, syscall.SIGTERM)
	}
	if !ended(dir) {
		signal(dir, syscall.SIGKILL) // its children die with it
		if !ended(dir) {
			return fmt.Errorf("the demo does not end; its supervisor is process %s", pid(dir))
		}
	}
	fmt.Fprintf(out, "the demo is down after %.1f s\n", time.Since(begun).Seconds())
	return os.RemoveAll(dir)
}

// ended waits until nobody holds the lock.
func ended(dir string) bool {
	lock := flock.New(filepath.Join(dir, lockFile))
	defer lock.Close()
	for deadline := time.Now().Add(closeTimeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		got, err := lock.TryLock()
		if got || errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	return false
}

func pid(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, lockFile))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// signal reaches the supervisor only while it holds the lock: a process that has
// its number by now is left alone.
func signal(dir string, sig syscall.Signal) {
	lock := flock.New(filepath.Join(dir, lockFile))
	defer lock.Close()
	if got, err := lock.TryLock(); got || err != nil {
		return
	}
	if n, err := strconv.Atoi(pid(dir)); err == nil {
		syscall.Kill(n, sig) //nolint:errcheck // gone already is fine
	}
}
