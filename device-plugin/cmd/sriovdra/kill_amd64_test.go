// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// isStep tells the system calls after which the node's files are others. Between any two of
// them an end of the process leaves the same state.
func isStep(regs *syscall.PtraceRegs) bool {
	switch regs.Orig_rax {
	case unix.SYS_OPENAT:
		return regs.Rdx&unix.O_CREAT != 0
	case unix.SYS_MKDIRAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT, unix.SYS_FSYNC:
		return true
	}
	return false
}

// traced is a driver in a process of its own, which is killed where a step begins.
type traced struct {
	health string
	left   atomic.Int64 // steps until then; 0 never
	pid    int
	ended  chan error
	killed atomic.Bool
}

// newTraced starts a driver and returns when it takes claims.
func (w *world) newTraced() *traced {
	w.Helper()
	cmd, health := w.command()
	p := &traced{health: health, ended: make(chan error, 1)}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the tracer is a thread; it ends with the goroutine
		cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
		err := cmd.Start()
		started <- err
		if err == nil {
			p.ended <- p.trace(cmd.Process.Pid)
			_ = cmd.Process.Release()
		}
	}()
	require.NoError(w, <-started)
	p.pid = cmd.Process.Pid
	said := ""
	w.await(func() bool {
		said = w.probe(health)
		return !strings.Contains(said, "no driver answers") && !strings.Contains(said, "not registered") && !strings.Contains(said, "label is not read")
	}, func() string { return said })
	return p
}

// trace follows a process that was started for it, to its end.
func (p *traced) trace(leader int) error {
	entering := map[int]bool{}
	for first := true; ; first = false {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-leader, &status, unix.WALL, nil) // its group: its threads, and nothing of other tests
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if status.Exited() || status.Signaled() {
			if pid == leader {
				return nil
			}
			continue
		}
		if first {
			if err := syscall.PtraceSetOptions(pid, syscall.PTRACE_O_TRACESYSGOOD|syscall.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
				return err
			}
		}
		deliver := 0
		switch signal := status.StopSignal(); signal {
		case syscall.SIGTRAP | 0x80:
			entering[pid] = !entering[pid]
			var regs syscall.PtraceRegs
			if p.left.Load() == 0 || !entering[pid] || syscall.PtraceGetRegs(pid, &regs) != nil || !isStep(&regs) {
				break
			}
			if p.left.Add(-1) == 0 {
				p.killed.Store(true)
				if err := syscall.Kill(leader, syscall.SIGKILL); err != nil {
					return err
				}
				continue
			}
		case syscall.SIGTRAP, syscall.SIGSTOP:
		default:
			deliver = int(signal)
		}
		if err := syscall.PtraceSyscall(pid, deliver); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
}

// kill ends the process and waits for its end.
func (p *traced) kill() error {
	_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may have ended
	return <-p.ended
}

// retry does what kubelet does: it asks until it is answered.
func (w *world) retry(what string, call func() error) {
	w.Helper()
	var err error
	w.await(func() bool { err = call(); return err == nil }, func() string { return fmt.Sprintf("%s: %v", what, err) })
}

// files are all that the driver has on the node but for its sockets and its lock.
func (w *world) files() (out []string) {
	w.Helper()
	for _, dir := range []string{filepath.Join(w.dir, "cdi"), filepath.Join(w.dir, "devinfo"), filepath.Join(w.root, "plugins", driverName)} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && d.Name() != "calls.lock" {
				out = append(out, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			require.NoError(w, err)
		}
	}
	return out
}

// whole checks what a pod with a claim needs: the record, the files for its containers and its
// network in the claim's status.
func (w *world) whole(claim *resourceapi.ResourceClaim, vf string) {
	w.Helper()
	r, err := record.Store{Dir: filepath.Join(w.root, "plugins", driverName, "claims")}.Load(claim.UID)
	require.NoError(w, err)
	require.True(w, r.Prepared)
	require.True(w, r.Holds(vf))
	require.FileExists(w, filepath.Join(w.dir, "devinfo", "example.com-vfs-"+vf+"-device.json"))
	cache, err := cdi.NewCache(cdi.WithSpecDirs(filepath.Join(w.dir, "cdi")), cdi.WithAutoRefresh(false))
	require.NoError(w, err)
	require.Empty(w, cache.GetErrors())
	for _, id := range []string{"/vf=" + string(claim.UID) + "_nic", "/metadata=" + string(claim.UID) + "_nic"} {
		require.NotNil(w, cache.GetDevice(driverName+id), id)
	}
	// The meta plugin tells of the pod's network.
	const netdev = "net1"
	path := filepath.Join(w.dir, "attachments", string(claim.Status.ReservedFor[0].UID)+".json")
	text := fmt.Sprintf(`{"version": 1, "podUID": %q, "attachments": [{"deviceID": %q, "interface": %q}]}`, claim.Status.ReservedFor[0].UID, vf, netdev)
	require.NoError(w, os.WriteFile(path+".new", []byte(text), 0o644))
	require.NoError(w, os.Rename(path+".new", path))
	w.await(func() bool {
		c, err := w.api.ResourceV1().ResourceClaims(claim.Namespace).Get(w.Context(), claim.Name, metav1.GetOptions{})
		require.NoError(w, err)
		return len(c.Status.Devices) == 1 && c.Status.Devices[0].NetworkData.InterfaceName == netdev
	}, func() string { return "the claim's status does not have its network" })
	require.NoError(w, os.Remove(path))
	metadata, err := os.ReadFile(filepath.Join(w.root, "plugins", driverName, "dra-device-metadata", "team_"+claim.Name, "nic/metadata.json"))
	require.NoError(w, err)
	require.Contains(w, string(metadata), netdev)
}

// The driver's process is killed before each change that it makes on the node, while it
// prepares a claim or ends one. The next process, and kubelet, which asks for one or the
// other again, leave a pod that runs, with its network in the claim's status, or nothing.
func TestProcessKilledAnywhere(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"prepare", "unprepare"} {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 1)
			stride := 1
			if w.fake == nil { // beside a real API server a few will do
				stride = 5
			}
			w.label("dra")
			p := w.newTraced()
			t.Cleanup(func() { require.NoError(t, p.kill()) })
			w.awaitOffered(vfs(1)...)
			for step := 1; ; step += stride {
				claim, vf, err := w.allocate("p")
				require.NoError(t, err)
				calls := map[string]func() error{
					"prepare":   func() error { _, err := w.kube.Prepare(driverName, claim); return err },
					"unprepare": func() error { return w.kube.Unprepare(driverName, claim) },
				}
				if first == "unprepare" {
					w.retry("prepare", calls["prepare"])
				}
				p.left.Store(int64(step))
				err = calls[first]()
				p.left.Store(0)
				if err == nil {
					require.Greater(t, step, 8, "the tracer sees the steps")
					w.retry("unprepare", calls["unprepare"])
					require.Empty(t, w.files())
					require.NoError(t, w.api.ResourceV1().ResourceClaims("team").Delete(t.Context(), "p", deleteNow))
					return
				}
				require.True(t, p.killed.Load(), "%v", err)
				require.NoError(t, <-p.ended)
				p = w.newTraced()
				then := []string{"prepare", "unprepare"}[step%2]
				t.Logf("killed before step %d of %s, then %s", step, first, then)
				w.retry(then, calls[then])
				if then == "prepare" {
					w.whole(claim, vf)
					w.retry("unprepare", calls["unprepare"])
				}
				require.Empty(t, w.files())
				require.NoError(t, w.api.ResourceV1().ResourceClaims("team").Delete(t.Context(), "p", deleteNow))
			}
		})
	}
}
