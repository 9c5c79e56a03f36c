// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/record"
)

const eth1 = "CNI_IFNAME=eth1"

// as runs a command that has to succeed under a CNI_IFNAME.
func (e *env) as(ifname, command string) outcome {
	e.t.Helper()
	out := e.exec(command, e.stdin(nil), ifname)
	require.Nil(e.t, out.Err, "%s: %v\n%s", command, out.Err, out.Stderr)
	return out
}

// attachedTwice is a container that is attached under eth0 and under eth1.
func attachedTwice(t *testing.T) *env {
	t.Helper()
	e := twoNetworks(t)
	e.must("ADD")
	e.as(eth1, "ADD")
	require.Equal(t, []string{"ADD eth0", "ADD net1", "ADD net2", "ADD eth1", "ADD net3", "ADD net4"}, names(e.calls()))
	return e
}

func (e *env) secondRecord() string {
	return record.Store{Dir: e.conf["cniDir"].(string)}.Path(record.Key(e.container, "eth1"))
}

// A container that is attached again under another CNI_IFNAME has two attachments that
// come and go by themselves.
func TestSecondInterface(t *testing.T) {
	t.Parallel()
	first, second := []string{"DEL net2", "DEL net1", "DEL eth0"}, []string{"DEL net4", "DEL net3", "DEL eth1"}
	for name, secondFirst := range map[string]bool{"second goes first": true, "first goes first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := attachedTwice(t)
			e.must("CHECK")
			assert.Equal(t, []string{"CHECK eth0", "CHECK net1", "CHECK net2"}, names(e.calls()))
			e.as(eth1, "CHECK")
			assert.Equal(t, []string{"CHECK eth1", "CHECK net3", "CHECK net4"}, names(e.calls()))
			if secondFirst {
				e.as(eth1, "DEL")
				assert.Equal(t, second, names(e.calls()))
				e.as(eth1, "DEL")
				assert.Empty(t, e.calls(), "nothing of eth0")
				e.must("CHECK")
				e.calls()
				e.must("DEL")
				assert.Equal(t, first, names(e.calls()))
			} else {
				e.must("DEL")
				assert.Equal(t, first, names(e.calls()))
				e.as(eth1, "CHECK")
				e.calls()
				e.as(eth1, "DEL")
				assert.Equal(t, second, names(e.calls()))
			}
			assert.Empty(t, e.leftovers())
		})
	}
}

func TestSecondInterfaceTwice(t *testing.T) {
	t.Parallel()
	e := attachedTwice(t)
	out := e.exec("ADD", e.stdin(nil), eth1)
	require.NotNil(t, out.Err)
	assert.Equal(t, types.ErrInvalidEnvironmentVariables, out.Err.Code)
	assert.Contains(t, out.Err.Msg, "attached with eth1 already")
	out = e.exec("CHECK", e.stdin(nil), "CNI_IFNAME=eth2")
	require.NotNil(t, out.Err)
	assert.Equal(t, types.ErrUnknownContainer, out.Err.Code)
	assert.Empty(t, e.calls())

	// What a killed ADD left of eth1 is cleaned without a look at eth0.
	data, err := os.ReadFile(e.secondRecord())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(e.secondRecord(), []byte(strings.Replace(string(data), `"added":true`, `"added":false`, 1)), 0o600))
	e.as(eth1, "ADD")
	assert.Equal(t, []string{"DEL eth1", "ADD eth1", "ADD net3", "ADD net4"}, names(e.calls()))
}

// Without its record each is found by libcni's entries, and no other's with it.
func TestSecondInterfaceWithoutRecord(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"gone": os.Remove, "torn": func(path string) error { return os.Truncate(path, 50) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := attachedTwice(t)
			require.NoError(t, damage(e.secondRecord()))
			e.as(eth1, "DEL")
			assert.ElementsMatch(t, []string{"DEL net4", "DEL net3", "DEL eth1"}, names(e.calls()))
			e.must("CHECK")

			e = attachedTwice(t)
			require.NoError(t, damage(e.recordPath()))
			e.must("DEL")
			assert.ElementsMatch(t, []string{"DEL net2", "DEL net1", "DEL eth0"}, names(e.calls()))
			e.as(eth1, "CHECK")
			e.as(eth1, "DEL")
			assert.Empty(t, e.leftovers())

			e = attachedTwice(t)
			require.NoError(t, damage(e.recordPath()))
			require.NoError(t, damage(e.secondRecord()))
			e.as(eth1, "DEL")
			assert.ElementsMatch(t, []string{"DEL net4", "DEL net3", "DEL eth1"}, names(e.calls()))
		})
	}
}

func TestGCOfSecondInterfaces(t *testing.T) {
	t.Parallel()
	valid := func(ifnames ...string) []map[string]string {
		list := []map[string]string{}
		for _, ifname := range ifnames {
			list = append(list, map[string]string{"containerID": "c1", "ifname": ifname})
		}
		return list
	}
	e := attachedTwice(t)
	for _, listed := range [][]string{{"eth0", "eth1"}, {"eth1", "eth0"}, {"eth0"}} {
		e.conf["cni.dev/valid-attachments"] = valid(listed...)
		e.must("GC")
		for _, c := range e.calls() {
			require.Equal(t, "GC", c.Command)
			if c.member(t, "name") == `"neta"` {
				assert.JSONEq(t, `[{"containerID":"c1","ifname":"net1"},{"containerID":"c1","ifname":"net3"}]`, c.member(t, "cni.dev/valid-attachments"))
			}
		}
	}
	require.NoError(t, os.Remove(e.secondRecord()), "libcni's entries alone tell of eth1")
	e.conf["cni.dev/valid-attachments"] = valid()
	e.must("GC")
	var dels []string
	for _, c := range e.calls() {
		if c.Command == "DEL" {
			dels = append(dels, c.Ifname)
		}
	}
	assert.ElementsMatch(t, []string{"net2", "net1", "eth0", "net4", "net3", "eth1"}, dels)
	assert.Empty(t, e.leftovers())
}

// The driver of a claim is told of the devices of both.
func TestAttachmentsOfSecondInterfacesAreTold(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.conf["deviceInfoDir"] = filepath.Join(e.dir, "run", "devinfo")
	e.kubelet(&kubelet{devices: []string{"0000:01:00.1"}})
	e.withResource(podNS, "neta")
	e.networks("neta")
	e.must("ADD")
	e.as(eth1, "ADD")
	path := filepath.Join(e.dir, "run", "attachments", podUID+".json")
	told := func() string { data, _ := os.ReadFile(path); return string(data) }
	assert.Contains(t, told(), `"interface":"net1"`)
	assert.Contains(t, told(), `"interface":"net2"`)
	e.must("DEL")
	assert.NotContains(t, told(), `"interface":"net1"`)
	assert.Contains(t, told(), `"interface":"net2"`)
	e.as(eth1, "DEL")
	assert.NoFileExists(t, path)
}
