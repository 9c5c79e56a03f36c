// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestConcurrentAdds(t *testing.T) {
	t.Parallel()
	const containers = 64
	e := twoNetworks(t)
	e.detect()
	e.conf["apiTimeout"] = "10m" // they share the processors, and those are busy already
	var all sync.WaitGroup
	outcomes := make([]outcome, containers)
	for i := range containers {
		all.Go(func() {
			cmd := e.command("ADD", e.stdin(nil), fmt.Sprintf("CNI_CONTAINERID=c%d", i))
			var stdout strings.Builder
			cmd.Stdout = &stdout
			err := cmd.Run()
			outcomes[i] = outcome{Stdout: stdout.String()}
			assert.NoError(t, err, stdout.String())
		})
	}
	all.Wait()
	seen := map[string][]string{}
	for _, c := range e.calls() {
		seen[c.Container] = append(seen[c.Container], c.String())
	}
	require.Len(t, seen, containers)
	for container, calls := range seen {
		assert.Equal(t, []string{"ADD eth0", "ADD net1", "ADD net2"}, calls, container)
	}
	for i := range containers {
		all.Go(func() {
			assert.NoError(t, e.command("DEL", e.stdin(nil), fmt.Sprintf("CNI_CONTAINERID=c%d", i)).Run())
		})
	}
	all.Wait()
	assert.Empty(t, e.leftovers())
}

// Commands of one container wait for each other: no DEL between the ADDs.
func TestAddAndDelOfOneContainerAreSerialised(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.detect()
	var all sync.WaitGroup
	for i := range 8 {
		command := []string{"ADD", "DEL"}[i%2]
		all.Go(func() { _ = e.command(command, e.stdin(nil)).Run() })
	}
	all.Wait()
	e.must("DEL")
	calls := names(e.calls())
	for len(calls) > 0 {
		want := []string{"ADD eth0", "ADD net1", "ADD net2"}
		switch calls[0] {
		case "DEL net2":
			want = []string{"DEL net2", "DEL net1", "DEL eth0"}
		case "DEL eth0": // nothing is attached: the default network of the configuration
			want = []string{"DEL eth0"}
		}
		require.GreaterOrEqual(t, len(calls), len(want))
		require.Equal(t, want, slices.Clone(calls[:len(want)]))
		calls = calls[len(want):]
	}
	assert.Empty(t, e.leftovers())
}

// The plugins of a killed shim die with it.
func TestDelegateDiesWithUs(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.delegate(`{"name":"dflt","type":"recorder","test":{"hang":"ADD"}}`)
	cmd := e.command("ADD", e.stdin(nil))
	require.NoError(t, cmd.Start())
	var delegate string
	require.Eventually(t, func() bool {
		delegate = child(cmd.Process.Pid)
		_, err := os.Stat(filepath.Join(e.dir, "calls"))
		return delegate != "" && err == nil
	}, waitFor, tick)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.Eventually(t, func() bool {
		_, err := os.Stat("/proc/" + delegate)
		return os.IsNotExist(err)
	}, waitFor, tick)
	e.delegate(`{"name":"dflt","type":"recorder"}`)
	require.NotContains(t, e.must("DEL").Stderr, "nothing is recorded")
}

// A runtime that gives up (SIGTERM) gets everything undone.
func TestTerminatedAddIsUndone(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.detect()
	e.nad("neta", `"test":{"hang":"ADD"}`)
	cmd := e.command("ADD", e.stdin(nil))
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		data, _ := os.ReadFile(filepath.Join(e.dir, "calls"))
		return strings.Count(string(data), "\n") == 2
	}, waitFor, tick)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.Error(t, cmd.Wait())
	assert.Equal(t, []string{"ADD eth0", "ADD net1", "DEL net1", "DEL eth0"}, names(e.calls()))
	assert.Empty(t, e.leftovers())
}

// child is a process started by pid, "" while there is none.
func child(pid int) string {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		if data, err := os.ReadFile(task); err == nil && len(data) > 0 {
			return strings.Fields(string(data))[0]
		}
	}
	return ""
}

// shell installs a delegate that is a shell script.
func (e *env) shell(name, script string) {
	e.t.Helper()
	require.NoError(e.t, os.WriteFile(filepath.Join(e.dir, "bin", name), []byte("#!/bin/sh\n"+script), 0o755))
	e.api.PutNAD(podNS, name, `{"cniVersion":"1.0.0","type":"`+name+`"}`, nil)
	e.networks(name)
}

func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// A process that a delegate leaves behind, its stdout open, is not waited for.
func TestDelegateThatLeavesADaemon(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	pidFile := filepath.Join(e.dir, "pid")
	e.shell("daemonic", `[ $CNI_COMMAND = DEL ] && exit 0; cat >/dev/null; sleep 1000 & echo $! >`+pidFile+`; echo '{"cniVersion":"1.0.0"}'`)
	e.must("ADD")
	data, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	pid := strings.TrimSpace(string(data))
	assert.True(t, alive(pid), "and not killed")
	number, err := strconv.Atoi(pid)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(number, syscall.SIGKILL))
}
