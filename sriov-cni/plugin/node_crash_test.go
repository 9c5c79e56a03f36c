// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package plugin_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest/quirk"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// killAt runs a call and kills it with SIGKILL when any of its threads is about
// to enter its n-th system call, counted over all threads. killed is false if
// the call ended before; early is true if nothing had changed anything yet.
// Programs that it starts are not traced: what a kill of the plugin leaves of
// them runs on, as it does in life.
func killAt(t *testing.T, c call, n int) (killed, early bool, at string) {
	t.Helper()
	runtime.LockOSThread() // ptrace answers only the thread that started the child
	defer runtime.UnlockOSThread()
	cmd := c.cmd()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Setpgid: true} // the group tells it from what others run
	require.NoError(t, cmd.Start())
	pid := cmd.Process.Pid
	defer func() { _ = cmd.Wait() }() // reaps what Wait4 did not; the copiers end with the pipes
	var ws unix.WaitStatus
	_, err := unix.Wait4(pid, &ws, 0, nil)
	require.NoError(t, err)
	require.NoError(t, unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL))
	require.NoError(t, unix.PtraceSyscall(pid, 0))
	inside := map[int]bool{} // threads between entry and exit of a system call
	early = true
	for count := 0; ; {
		tid, err := unix.Wait4(-pid, &ws, unix.WALL, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		require.NoError(t, err)
		switch {
		case ws.Exited() || ws.Signaled():
			if tid == pid {
				return false, early, ""
			}
			continue
		case ws.StopSignal() == unix.SIGTRAP|0x80:
			inside[tid] = !inside[tid]
			var regs unix.PtraceRegs
			if inside[tid] && unix.PtraceGetRegs(tid, &regs) == nil && (killStep > 0 || counts(regs)) {
				if count++; count == n {
					require.NoError(t, unix.Kill(pid, unix.SIGKILL))
					for {
						tid, err := unix.Wait4(-pid, &ws, unix.WALL, nil)
						if errors.Is(err, unix.ECHILD) || tid == pid && (ws.Signaled() || ws.Exited()) {
							return true, early, fmt.Sprintf("system call %d", regs.Orig_rax)
						}
					}
				}
				early = early && !counts(regs)
			}
			_ = unix.PtraceSyscall(tid, 0)
		case ws.StopSignal() == unix.SIGTRAP || ws.StopSignal() == unix.SIGSTOP: // clone, and the new thread's start
			_ = unix.PtraceSyscall(tid, 0)
		default:
			_ = unix.PtraceSyscall(tid, int(ws.StopSignal()))
		}
	}
}

// killStep is how many system calls apart the kills are, 1 being every one:
// SRIOVKIT_KILL in the environment. 0, when it is not set, is to kill before
// those only that count. Until the first of these, the 250 calls with which the
// Go runtime starts, nothing is there to be recovered: there they are earlyStep
// apart.
var killStep, _ = strconv.Atoi(os.Getenv("SRIOVKIT_KILL"))

const earlyStep = 25

// counts reports whether a system call changes something that outlives the process. A
// kill before any other call (memory, threads, reading) leaves the same state as a kill
// before the next one that counts.
func counts(regs unix.PtraceRegs) bool {
	switch regs.Orig_rax {
	case unix.SYS_OPENAT:
		return regs.Rdx&(unix.O_CREAT|unix.O_TMPFILE|unix.O_WRONLY|unix.O_RDWR) != 0
	case unix.SYS_WRITE, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SETNS, unix.SYS_FLOCK, unix.SYS_EXIT_GROUP,
		unix.SYS_LINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT, unix.SYS_MKDIRAT:
		return true
	}
	return false
}

// way is one order of calls of which one is killed.
type way struct {
	name          string
	before        string // the call that comes before the one that is killed, if any
	victim, after string // names of calls
}

var ways = []way{
	{name: "ADD, then DEL", victim: "add", after: "del"},
	{name: "ADD, then GC", victim: "add", after: "gc"},
	{name: "ADD, then next ADD", victim: "add", after: "next next-del del"},
	{name: "DEL, then DEL", before: "add", victim: "del", after: "del"},
	{name: "DEL, then GC", before: "add", victim: "del", after: "gc"},
	{name: "DEL, then next ADD", before: "add", victim: "del", after: "next next-del del"},
	{name: "failed ADD, then DEL", victim: "refused", after: "del"},
}

// TestNodeKilled kills ADD and DEL before system calls that count, all of which are too many
// for every change, and has DEL, GC or the next pod's ADD find what is left. Whatever that is,
// the VF is as it was then.
func TestNodeKilled(t *testing.T) {
	sriovtest.NeedNode(t)
	killAll(t, 8, ways, ways)
}

// The same on NICs whose VFs reset: those of the profile that the suite runs on or, where
// it runs on none, those of TestNodeQuirkResets. Each kill costs some resets there, so
// without SRIOVKIT_KILL fewer ways are tried, each in one state of the VF.
func TestNodeQuirkKilled(t *testing.T) {
	sriovtest.NeedNode(t)
	asMade, withMAC := ways, ways
	switch {
	case killStep > 0:
	case quirk.Current() != quirk.Plain:
		asMade, withMAC = ways[:3], ways[3:]
	default:
		asMade, withMAC = ways[3:4], ways[:1]
	}
	if quirk.Current() != quirk.Plain {
		killAll(t, 16, asMade, withMAC)
		return
	}
	for name, s := range resets {
		t.Run(name, func(t *testing.T) {
			quirk.Set(t, resetting(s))
			killAll(t, 24, asMade, withMAC)
		})
	}
}

// killAll kills in several ways at once, one VF each: in some on VFs as their driver made
// them, in others on VFs of another PF that have an administrative MAC. apart is how many
// system calls that count a kill is behind the one before, where SRIOVKIT_KILL says nothing.
func killAll(t *testing.T, apart int, asMade, withMAC []way) {
	t.Helper()
	for i := range withMAC { // before any other, for until it is renamed a VF may have another's name
		needVF(t, 1, i).setAdminMAC(t, fmt.Sprintf("02:00:00:00:15:%02x", i))
	}
	for pf, state := range []struct {
		name  string
		first int
		ways  []way
	}{{"as the driver made it", 1, asMade}, {"with an administrative MAC", 1 + apart/2, withMAC}} {
		for i, w := range state.ways {
			v := needVF(t, pf, i)
			t.Run(state.name+", "+w.name, func(t *testing.T) {
				t.Parallel()
				w.kill(t, v, 8*pf+i, state.first, apart)
			})
		}
	}
}

// kill kills before the call whose number is first, and before those apart from it. The id
// is of one VF: GC is for one network.
func (w way) kill(t *testing.T, v vf, id, first, apart int) {
	t.Helper()
	before := v.picture(t)
	conf := everything()
	conf["name"] = fmt.Sprintf("net-%d", id)
	conf["mac"] = fmt.Sprintf("ca:fe:c0:ff:ee:%02x", 0x40+id)
	conf["logLevel"] = "debug"
	delete(conf, "max_tx_rate") // igb accepts one only while its link is up
	add, del := attach(t, v, newPod(t), conf)
	next, nextDel := attach(t, v, newPod(t), map[string]any{"vlan": 200})
	calls := map[string]call{
		"add": add, "del": del, "gc": del.as("GC").with(noneValid), "next": next, "next-del": nextDel,
		"refused": add.with(map[string]any{"mtu": 20000}), // by the VF's driver, last of all
	}
	tried, step := 0, apart
	if killStep > 0 {
		first, apart, step = 1, killStep, max(killStep, earlyStep)
	}
	for n := first; ; n += step {
		for _, name := range strings.Fields(w.before) {
			calls[name].ok(t)
		}
		killed, early, at := killAt(t, calls[w.victim], n)
		if killed {
			tried++
		}
		when := fmt.Sprintf("killed before %s (number %d)", at, n)
		for _, name := range strings.Fields(w.after) {
			a := calls[name].try(t)
			when += fmt.Sprintf("\n%s: %s", name, a.stderr)
			// A committed ADD holds its VF against the next.
			held := calls[name].pod == next.pod && a.Code == 11 && strings.Contains(a.Msg, "is already allocated")
			if a.exit != 0 && !held {
				t.Fatalf("%s%s", when, a.stdout)
			}
		}
		v.becomes(t, before, when)
		if !killed {
			break
		}
		if !early && step > apart { // too far
			n, step = max(n-step, 0), apart
		}
	}
	t.Logf("%d kills survived", tried)
}

// becomes waits until the VF is as in a picture: drivers take over what the PF sets some
// time later, and others' VFs reset all the while.
func (v vf) becomes(t *testing.T, want picture, when string) {
	t.Helper()
	var diff string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if diff = cmp.Diff(want, v.picture(t)); diff == "" {
			return
		}
	}
	t.Fatalf("%s: VF %s is not as it was (-before +after):\n%s", when, v.Address, diff)
}
