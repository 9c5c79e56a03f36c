// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/vm"
)

func boot(t *testing.T, c vm.Config) *vm.VM {
	t.Helper()
	vm.Need(t)
	v, err := vm.Boot(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	return v
}

func output(t *testing.T, v *vm.VM, script string) string {
	t.Helper()
	out, err := v.Output(t.Context(), "sh", "-ec", script)
	require.NoError(t, err)
	return strings.TrimSpace(out)
}

// TestNodeRun is what one can do with a node, on one node.
func TestNodeRun(t *testing.T) {
	t.Parallel()
	v := boot(t, vm.Config{Name: "run", CPUs: 2})
	ctx := t.Context()

	t.Run("streams", func(t *testing.T) {
		var out, errs bytes.Buffer
		err := v.Run(ctx, vm.Command{
			Args: []string{"sh", "-c", `cat; echo "$GREETING from $(hostname) in $PWD" >&2; exit 3`}, Dir: "/etc",
			Env: []string{"GREETING=it's"}, Stdin: strings.NewReader("input"), Stdout: &out, Stderr: &errs,
		})
		var exit *vm.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, 3, exit.Status)
		require.Equal(t, "input", out.String())
		require.Equal(t, "it's from run in /etc\n", errs.String())
	})
	t.Run("errors", func(t *testing.T) {
		_, err := v.Output(ctx, "no-such-program")
		require.ErrorContains(t, err, "exit status 127")
		_, err = v.Output(ctx, "ls", "/no such file")
		require.ErrorContains(t, err, "'/no such file': No such file or directory")
		_, err = v.Output(ctx, "sh", "-c", "kill -9 $$")
		require.ErrorContains(t, err, "exit status 137")
	})
	t.Run("unread input and early output", func(t *testing.T) {
		endless, stop := io.Pipe()
		defer stop.Close()
		require.NoError(t, v.Run(ctx, vm.Command{Args: []string{"true"}, Stdin: endless}))
	})
	t.Run("background", func(t *testing.T) {
		output(t, v, "sleep 1000 >/dev/null 2>&1 & echo $! >/run/sleeper")
		output(t, v, "kill -0 $(cat /run/sleeper)")
	})
	t.Run("cancel", func(t *testing.T) {
		cancelled, cancel := context.WithCancelCause(ctx)
		began := make(chan struct{})
		go func() {
			<-began
			cancel(errors.New("changed my mind"))
		}()
		err := v.Run(cancelled, vm.Command{Args: []string{"sh", "-c", "sleep 1234 & echo; wait"}, Stdout: closer{began}})
		require.ErrorContains(t, err, "changed my mind")
		require.Eventually(t, func() bool {
			_, err := v.Output(ctx, "pgrep", "-f", "sleep 123[4]")
			return err != nil
		}, 5*time.Minute, 50*time.Millisecond, "the command and its children are killed")
	})
	t.Run("awake", func(t *testing.T) {
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			out, err := v.Output(ctx, "sh", "-c", "cat /proc/$PPID/task/*/status")
			require.NoError(c, err)
			require.Regexp(c, `Cpus_allowed_list:\s+1\n`, out, "the agent ran on each processor, and on the second last")
		}, 5*time.Minute, 100*time.Millisecond)
	})
	t.Run("transfer", func(t *testing.T) {
		from := filepath.Join(t.TempDir(), "tree")
		require.NoError(t, os.MkdirAll(filepath.Join(from, "sub"), 0o755))
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
		require.NoError(t, os.WriteFile(filepath.Join(from, "sub", "data"), data, 0o640))
		require.NoError(t, os.Symlink("data", filepath.Join(from, "sub", "link")))
		for range 2 { // the second replaces the first
			require.NoError(t, v.Push(ctx, from, "/srv/some where/tree"))
		}
		back := filepath.Join(t.TempDir(), "a", "back")
		require.NoError(t, v.Pull(ctx, "/srv/some where/tree", back))
		got, err := os.ReadFile(filepath.Join(back, "sub", "link"))
		require.NoError(t, err)
		require.Equal(t, data, got)
		info, err := os.Stat(filepath.Join(back, "sub", "data"))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o640), info.Mode())
		require.ErrorContains(t, v.Pull(ctx, "/no/such", back+"2"), "No such file")
		require.ErrorContains(t, v.Push(ctx, "/no/such", "/srv/x"), "pack /no/such")
	})
	t.Run("panic", func(t *testing.T) { // the last one: nothing runs afterwards
		_, err := v.Output(ctx, "sh", "-c", "echo c >/proc/sysrq-trigger")
		require.ErrorContains(t, err, "Kernel panic")
		_, err = v.Output(ctx, "true")
		require.ErrorContains(t, err, "Kernel panic")
	})
}

// closer closes a channel at the first write.
type closer struct{ began chan struct{} }

func (c closer) Write(p []byte) (int, error) {
	select {
	case <-c.began:
	default:
		close(c.began)
	}
	return len(p), nil
}

// TestNodeHardware asks the kernel for the machines the configurations promise.
func TestNodeHardware(t *testing.T) {
	vm.Need(t)
	t.Parallel()
	const addresses = "cd /sys/bus/pci/devices; for f in */sriov_totalvfs; do echo ${f%/*}; done"
	t.Run("sixteen PFs", func(t *testing.T) {
		t.Parallel()
		v := boot(t, vm.Config{PFs: vm.MaxPFs})
		var want []string
		for card := 1; card <= 8; card++ {
			want = append(want, fmt.Sprintf("0000:%02x:00.0", card), fmt.Sprintf("0000:%02x:00.1", card))
		}
		require.Equal(t, want, strings.Fields(output(t, v, addresses)))
	})
	t.Run("NUMA", func(t *testing.T) {
		t.Parallel()
		v := boot(t, vm.Config{NUMA: true})
		require.Equal(t, "0\n1", output(t, v, "cd /sys/bus/pci/devices; for f in */sriov_totalvfs; do cat ${f%/*}/numa_node; done | sort"))
	})
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		image := filepath.Join(t.TempDir(), "disk.img")
		out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-d", "testdata", image, "1M").CombinedOutput()
		require.NoError(t, err, "%s", out)
		v := boot(t, vm.Config{PFs: 1, Disks: map[string]string{"extra": image}})
		require.Equal(t, "content of a disk", output(t, v, "cat /mnt/extra/file"))
	})
}

// TestNodeKilled boots a node in another process, kills that in a way it cannot
// handle, and expects QEMU to follow it.
func TestNodeKilled(t *testing.T) {
	t.Parallel()
	vm.Need(t)
	if file := os.Getenv("TEST_KILLED_FILE"); file != "" {
		v, err := vm.Boot(context.Background(), vm.Config{PFs: 1})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, []byte(v.ConsolePath), 0o600))
		select {}
	}
	file := filepath.Join(t.TempDir(), "console")
	child := exec.Command(os.Args[0], "-test.run", "^TestNodeKilled$")
	child.Env = append(os.Environ(), "TEST_KILLED_FILE="+file)
	child.Stdout, child.Stderr = os.Stderr, os.Stderr
	require.NoError(t, child.Start())
	t.Cleanup(func() { child.Process.Kill() }) // if it is not killed below
	var console []byte
	require.Eventually(t, func() bool {
		console, _ = os.ReadFile(file)
		return len(console) > 0
	}, 4*time.Minute, 50*time.Millisecond)
	qemu := children(t, child.Process.Pid)
	require.Len(t, qemu, 1)
	require.NoError(t, child.Process.Kill())
	child.Wait() // says that it was killed
	require.Eventually(t, func() bool {
		state, err := os.ReadFile(filepath.Join("/proc", qemu[0], "stat"))
		return errors.Is(err, fs.ErrNotExist) || strings.Contains(string(state), ") Z ")
	}, 5*time.Minute, 20*time.Millisecond)
	boot(t, vm.Config{PFs: 1})
	require.NoFileExists(t, string(console), "the next boot removes what the killed process left")
}

// TestNodeCrashedBoot has QEMU end as it does when it finds a fault in itself. The
// node boots all the same.
func TestNodeCrashedBoot(t *testing.T) {
	t.Parallel()
	vm.Need(t)
	crashed := make(chan struct{})
	go func() {
		defer close(crashed)
		for t.Context().Err() == nil {
			files, _ := filepath.Glob("/proc/self/task/*/children")
			for _, f := range files {
				text, _ := os.ReadFile(f) // threads come and go
				for _, child := range strings.Fields(string(text)) {
					args, _ := os.ReadFile(filepath.Join("/proc", child, "cmdline"))
					if pid, err := strconv.Atoi(child); err == nil && strings.Contains(string(args), "node.name=phoenix") {
						_ = syscall.Kill(pid, syscall.SIGABRT)
						return
					}
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	var log bytes.Buffer
	boot(t, vm.Config{Name: "phoenix", PFs: 1, Log: &log})
	<-crashed
	require.Contains(t, log.String(), "QEMU crashed")
	require.Contains(t, log.String(), "phoenix: trying again")
}

func children(t *testing.T, pid int) []string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	require.NoError(t, err)
	var all []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		all = append(all, strings.Fields(string(text))...)
	}
	return all
}
