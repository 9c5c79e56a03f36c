// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// gc runs GC with the runtime's list.
func (e *env) gc(valid ...string) outcome {
	e.t.Helper()
	list := []map[string]string{}
	for _, id := range valid {
		list = append(list, map[string]string{"containerID": id, "ifname": "eth0"})
	}
	e.conf["cni.dev/valid-attachments"] = list
	defer delete(e.conf, "cni.dev/valid-attachments")
	return e.run("GC")
}

func TestGC(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	for _, id := range []string{"c1", "c2"} {
		e.container = id
		e.must("ADD")
	}
	e.calls()
	require.Nil(t, e.gc("c1").Err)
	var valid []string
	for _, c := range e.calls() {
		switch c.Command {
		case "DEL":
			assert.Equal(t, "c2", c.Container)
		case "GC":
			valid = append(valid, c.member(t, "name")+c.member(t, "cni.dev/valid-attachments"))
			assert.Equal(t, c.member(t, "cni.dev/valid-attachments"), c.member(t, "cni.dev/attachments"))
		}
	}
	assert.Equal(t, []string{
		`"dflt"[{"containerID":"c1","ifname":"eth0"}]`, `"neta"[{"containerID":"c1","ifname":"net1"}]`, `"netb"[{"containerID":"c1","ifname":"net2"}]`,
	}, valid, "each network its own")
	e.container = "c1"
	e.must("DEL")
	assert.Empty(t, e.leftovers())
}

func TestGCCollectsErrors(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.nad("neta", `"test":{"fail":{"GC":5,"DEL":5}}`)
	e.must("ADD")
	e.calls()
	out := e.gc()
	require.NotNil(t, out.Err)
	assert.Contains(t, out.Err.Msg, "container c1: detach network ns1/neta")
	assert.Contains(t, out.Err.Msg, "network neta: plugin recorder")
	assert.Equal(t, []string{"DEL net2", "DEL net1", "DEL eth0", "GC ", "GC ", "GC "}, names(e.calls()))
}

func TestGCWithoutAList(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.must("ADD")
	e.calls()
	e.mustFail("GC", types.ErrInvalidNetworkConfig, "cni.dev/valid-attachments is missing")
	assert.Empty(t, e.calls())
}

func TestGCOfResultsAlone(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.must("ADD")
	e.calls()
	require.NoError(t, os.RemoveAll(filepath.Join(e.dir, "state", "records")))
	require.Nil(t, e.gc().Err)
	assert.Subset(t, names(e.calls()), []string{"DEL net2", "DEL net1", "DEL eth0"})
	assert.Empty(t, e.leftovers())
}

// lists are the valid attachments that GC got, by network name.
func lists(t *testing.T, calls []invocation) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, c := range calls {
		if c.Command != "GC" {
			continue
		}
		name := strings.Trim(c.member(t, "name"), `"`)
		out[name] = append(out[name], c.member(t, "cni.dev/valid-attachments"))
	}
	return out
}

func listOf(pairs ...string) []string {
	var parts []string
	for _, pair := range pairs {
		id, ifname, _ := strings.Cut(pair, " ")
		parts = append(parts, `{"containerID":"`+id+`","ifname":"`+ifname+`"}`)
	}
	return []string{"[" + strings.Join(parts, ",") + "]"}
}

// A record of another configuration, or of this one under its former name, lives:
// its runtime was not asked.
func TestGCLeavesOtherNetworksAlone(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.must("ADD")
	e.calls()
	e.conf["name"] = "another-multus"
	for _, valid := range [][]string{nil, {"c1"}} {
		require.Nil(t, e.gc(valid...).Err)
		assert.Equal(t, map[string][]string{"dflt": listOf("c1 eth0"), "neta": listOf("c1 net1"), "netb": listOf("c1 net2")}, lists(t, e.calls()))
	}
}

// attachedByRuntime leaves what the library of the runtime keeps of an attachment.
func (e *env) attachedByRuntime(id, ifname, config string) {
	e.t.Helper()
	var network struct{ Name string }
	require.NoError(e.t, json.Unmarshal([]byte(config), &network))
	data, err := json.Marshal(map[string]any{
		"kind": "cniCacheV1", "containerId": id, "config": []byte(config), "ifName": ifname, "networkName": network.Name,
	})
	require.NoError(e.t, err)
	dir := filepath.Join(e.dir, "results") // beside cniDir
	require.NoError(e.t, os.MkdirAll(dir, 0o755))
	require.NoError(e.t, os.WriteFile(filepath.Join(dir, network.Name+"-"+id+"-"+ifname), data, 0o600))
}

const (
	primary  = `{"cniVersion":"1.1.0","name":"dflt","plugins":[{"type":"recorder"},{"type":"portmap"}]}`
	loopback = `{"cniVersion":"1.1.0","name":"cni-loopback","type":"loopback"}`
)

// Containers from before the installation are listed and have no record: the runtime
// tells that it attached them to one network.
func TestGCOfContainersWithoutARecord(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.attachedByRuntime("old", "eth0", primary)
	e.attachedByRuntime("old", "lo", loopback)
	e.attachedByRuntime("very-old", "eth0", primary) // its ID ends like the other's
	require.Nil(t, e.gc("old").Err)
	assert.Equal(t, map[string][]string{"dflt": listOf("old eth0")}, lists(t, e.calls()))
	e.must("ADD")
	e.calls()
	require.Nil(t, e.gc("old", "c1").Err)
	assert.Equal(t, map[string][]string{
		"dflt": listOf("c1 eth0", "old eth0"), "neta": listOf("c1 net1"), "netb": listOf("c1 net2"),
	}, lists(t, e.calls()))
	e.attachedByRuntime("older", "eth0", `{"cniVersion":"1.1.0","name":"netb","type":"recorder"}`) // a former primary
	require.Nil(t, e.gc("old", "older", "c1").Err)
	assert.Equal(t, listOf("c1 net2", "older eth0"), lists(t, e.calls())["netb"])
}

// Where nothing tells to which networks a container is attached, it may be any: also a
// tenant's that has the default network's name, or one whose NAD is gone or renamed.
func TestGCOfContainersOfUnknownNetworks(t *testing.T) {
	t.Parallel()
	meta := `{"cniVersion":"1.1.0","name":"multus-net","type":"recorder","delegates":[]}`
	for name, prepare := range map[string]func(*env){
		"the state is lost": func(e *env) {
			e.attachedByRuntime("c1", "eth0", `{"cniVersion":"1.1.0","name":"multus-net","type":"multus-shim","delegates":[{"name":"dflt","type":"recorder"}]}`)
		},
		"the state is lost, the primary's name": func(e *env) {
			e.attachedByRuntime("c1", "eth0", `{"cniVersion":"1.1.0","name":"dflt","plugins":[{"type":"multus","clusterNetwork":"x"}]}`)
		},
		"another name of the binary": func(e *env) { e.attachedByRuntime("c1", "eth0", meta) },
		"nothing is known":           func(*env) {},
		"another container's":        func(e *env) { e.attachedByRuntime("c", "eth0", primary) },
		"another interface":          func(e *env) { e.attachedByRuntime("c1", "eth1", primary) },
		"only the loopback":          func(e *env) { e.attachedByRuntime("c1", "lo", loopback) },
		"two networks of one interface": func(e *env) {
			e.attachedByRuntime("c1", "eth0", primary)
			e.attachedByRuntime("c1", "eth0", strings.Replace(primary, "dflt", "b", 1))
		},
		"cut": func(e *env) {
			e.attachedByRuntime("c1", "eth0", primary)
			require.NoError(e.t, os.Truncate(filepath.Join(e.dir, "results", "dflt-c1-eth0"), 40))
		},
		"a directory": func(e *env) {
			require.NoError(e.t, os.MkdirAll(filepath.Join(e.dir, "results", "dflt-c1-eth0"), 0o755))
		},
		"a pipe": func(e *env) {
			require.NoError(e.t, os.Mkdir(filepath.Join(e.dir, "results"), 0o755))
			require.NoError(e.t, syscall.Mkfifo(filepath.Join(e.dir, "results", "dflt-c1-eth0"), 0o600))
		},
		"a file as place":  func(e *env) { require.NoError(e.t, os.WriteFile(filepath.Join(e.dir, "results"), nil, 0o600)) },
		"no configuration": func(e *env) { e.attachedByRuntime("c1", "eth0", `{"name":"dflt"}`) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.api.PutNAD(podNS, "tenant", `{"cniVersion":"1.1.0","name":"dflt","type":"recorder","from":"tenant"}`, nil)
			e.networks("tenant")
			e.must("ADD")
			e.container = "c2"
			e.must("ADD")
			e.container = "c3"
			e.must("ADD")
			e.calls()
			require.Nil(t, e.gc("c1", "c2", "c3").Err)
			require.Len(t, e.calls(), 2)
			e.container = "c1"
			require.NoError(t, os.Remove(e.recordPath()))
			for _, result := range []string{"dflt-c1-eth0", "dflt-c1-net1"} {
				require.NoError(t, os.Remove(e.in("results", result)))
			}
			prepare(e)
			out := e.gc("c1", "c2")
			require.Nil(t, out.Err)
			assert.Equal(t, []string{"DEL net1", "DEL eth0"}, names(e.calls()), "of c3, which is dead; c1 has a net1")
			assert.Contains(t, out.Stderr, "no network is collected")
			require.Nil(t, e.gc("c2").Err, "c1 has ended")
			both := listOf("c2 eth0", "c2 net1")[0]
			assert.Equal(t, map[string][]string{"dflt": {both, both}}, lists(t, e.calls()))
		})
	}
}

// A network beside the default one keeps the attachments that are recorded, under the
// names of their interfaces. Of containers that are not recorded, those are not known.
func TestGCOfSeveralDelegates(t *testing.T) {
	t.Parallel()
	two := func(second string) *env {
		e := newEnv(t)
		e.delegate(`{"name":"dflt","type":"recorder","cniVersion":"1.1.0"}`, `{"name":"`+second+`","type":"recorder","cniVersion":"1.1.0","second":true}`)
		e.must("ADD")
		require.Equal(t, []string{"ADD eth0", "ADD net1"}, names(e.calls()))
		return e
	}
	e := two("more")
	require.Nil(t, e.gc("c1").Err)
	assert.Equal(t, map[string][]string{"dflt": listOf("c1 eth0"), "more": listOf("c1 net1")}, lists(t, e.calls()))
	require.Nil(t, e.gc("c1", "lost").Err)
	assert.Empty(t, e.calls(), "lost has a net1")
	e.attachedByRuntime("old", "eth0", primary)
	require.Nil(t, e.gc("c1", "old").Err)
	assert.Equal(t, map[string][]string{"dflt": listOf("c1 eth0", "old eth0"), "more": listOf("c1 net1")}, lists(t, e.calls()))
	require.NoError(t, os.RemoveAll(filepath.Join(e.dir, "state")))
	require.Nil(t, e.gc("c1").Err)
	assert.Empty(t, e.calls(), "c1 has a net1")

	e = two("dflt")
	require.Nil(t, e.gc("c1").Err)
	both := listOf("c1 eth0", "c1 net1")[0]
	assert.Equal(t, map[string][]string{"dflt": {both, both}}, lists(t, e.calls()))
	require.Nil(t, e.gc("c1", "lost").Err)
	assert.Empty(t, e.calls(), "lost has a net1 of that name, too")
}

func TestGCOfAClusterNetwork(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*env){
		"name in a file": func(e *env) {
			e.confFile("by-name.conf", `{"name":"cluster","cniVersion":"1.1.0","type":"recorder"}`)
			e.conf["clusterNetwork"] = "cluster"
		},
		"name in a file, no API": func(e *env) {
			e.confFile("by-name.conf", `{"name":"cluster","cniVersion":"1.1.0","type":"recorder"}`)
			e.conf["clusterNetwork"] = "cluster"
			e.api.Stop()
		},
		"file": func(e *env) {
			e.confFile("net/a.conf", `{"name":"cluster","cniVersion":"1.1.0","type":"recorder"}`)
			e.conf["clusterNetwork"] = e.confPath("net/a.conf")
		},
		"NAD": func(e *env) {
			e.api.PutNAD("kube-system", "cluster", `{"cniVersion":"1.1.0","type":"recorder"}`, nil)
			e.conf["clusterNetwork"] = "cluster"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			delete(e.conf, "delegates")
			prepare(e)
			e.attachedByRuntime("old", "eth0", primary)
			require.Nil(t, e.gc("old").Err)
			assert.Equal(t, map[string][]string{"cluster": listOf("old eth0")}, lists(t, e.calls()))
		})
	}
}

// The cluster network's NAD cannot be asked for: what is recorded of it is kept, with
// what the runtime tells of containers from before the installation.
func TestGCOfAClusterNetworkWithoutTheAPI(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	delete(e.conf, "delegates")
	e.api.PutNAD("kube-system", "cluster", `{"cniVersion":"1.1.0","name":"dflt","type":"recorder"}`, nil)
	e.conf["clusterNetwork"] = "cluster"
	e.must("ADD")
	e.calls()
	e.api.Stop()
	e.attachedByRuntime("old", "eth0", primary)
	out := e.gc("c1", "old")
	require.NotNil(t, out.Err)
	assert.Contains(t, out.Err.Msg, "default network: network-attachment-definition kube-system/cluster")
	assert.Equal(t, map[string][]string{"dflt": listOf("c1 eth0", "old eth0")}, lists(t, e.calls()))
}

// While it is not known what a container is attached to, nothing is collected.
func TestGCWithAnUnreadableRecord(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(e *env) string{
		"torn":  func(e *env) string { require.NoError(t, os.Truncate(e.recordPath(), 50)); return "c1.json" },
		"empty": func(e *env) string { require.NoError(t, os.Truncate(e.recordPath(), 0)); return "c1.json" },
		"no attachments": func(e *env) string {
			require.NoError(t, os.WriteFile(e.recordPath(), []byte(`{"version":1,"containerID":"c1","ifname":"eth0","attachments":[]}`), 0o600))
			return "c1.json"
		},
		"version 2": func(e *env) string {
			require.NoError(t, os.WriteFile(e.recordPath(), []byte(`{"version":2,"containerID":"c1"}`), 0o600))
			return "c1.json"
		},
		"one empty result of several": func(e *env) string {
			require.NoError(t, os.Remove(e.recordPath()))
			e.results("dflt-c1-eth0", "neta-c1-net1")
			return "neta-c1-net1"
		},
		"an empty result": func(e *env) string {
			require.NoError(t, os.Remove(e.recordPath()))
			e.results("neta-c1-net1")
			return "neta-c1-net1"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := twoNetworks(t)
			for _, id := range []string{"c2", "c3", "c1"} {
				e.container = id
				e.must("ADD")
			}
			e.calls()
			if !strings.Contains(name, "result") {
				e.results()
			}
			file := damage(e)
			out := e.gc("c1", "c2")
			require.NotNil(t, out.Err)
			assert.Contains(t, out.Err.Msg, file)
			assert.Equal(t, []string{"DEL net2", "DEL net1", "DEL eth0"}, names(e.calls()), "of c3, which is dead; no GC")
			require.NotNil(t, e.gc("c1", "c2").Err, "it does not count as done")
			assert.Empty(t, e.calls())
		})
	}
}

// results keeps the named entries of c1, all but the first empty, and those of others.
func (e *env) results(keep ...string) {
	e.t.Helper()
	dir := filepath.Join(e.dir, "state", "results")
	for _, name := range []string{"dflt-c1-eth0", "neta-c1-net1", "netb-c1-net2"} {
		switch i := slices.Index(keep, name); {
		case i < 0:
			require.NoError(e.t, os.Remove(filepath.Join(dir, name)))
		case i > 0 || len(keep) == 1:
			require.NoError(e.t, os.Truncate(filepath.Join(dir, name), 0))
		}
	}
}

// Networks of one CNI name keep their state by that name: each configuration is
// asked, and told of the attachments of all.
func TestGCOfNetworksOfOneName(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.api.PutNAD(podNS, "neta", `{"cniVersion":"1.1.0","name":"same","type":"recorder","from":"a"}`, nil)
	e.api.PutNAD(podNS, "netb", `{"cniVersion":"1.1.0","name":"same","type":"recorder","from":"b"}`, nil)
	e.networks("neta,netb,neta")
	e.must("ADD")
	e.calls()
	e.api.PutNAD(podNS, "neta", `{"cniVersion":"1.1.0","name":"renamed","type":"recorder"}`, nil)
	e.api.PutNAD(podNS, "netb", `{"cniVersion":"1.1.0","name":"dflt","type":"recorder"}`, nil)
	require.Nil(t, e.gc("c1").Err)
	calls := e.calls()
	list := listOf("c1 net1", "c1 net2", "c1 net3")[0]
	assert.Equal(t, []string{list, list}, lists(t, calls)["same"])
	assert.Equal(t, []string{`"a"`, `"b"`}, []string{calls[1].member(t, "from"), calls[2].member(t, "from")})
}
