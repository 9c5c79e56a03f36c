// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/internal/apitest"
)

func (e *env) confPath(name string) string { return filepath.Join(e.dir, "conf", name) }

func (e *env) confFile(name, content string) {
	e.t.Helper()
	require.NoError(e.t, os.MkdirAll(filepath.Dir(e.confPath(name)), 0o755))
	require.NoError(e.t, os.WriteFile(e.confPath(name), []byte(content), 0o644))
}

func TestCheck(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.api.PutNAD(podNS, "netb", `{"cniVersion":"0.3.1","type":"recorder"}`, nil)
	e.must("ADD")
	adds := e.calls()
	e.must("CHECK")
	calls := e.calls()
	require.Equal(t, []string{"CHECK eth0", "CHECK net1"}, names(calls), "netb predates CHECK, which is no error")
	assert.Contains(t, calls[1].member(t, "prevResult"), `"name":"net1"`)
	assert.Equal(t, adds[1].Args, calls[1].Args)

	e.container = "unknown"
	e.mustFail("CHECK", types.ErrUnknownContainer, "nothing is recorded")
}

func TestCheckFindsWhatIsGone(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.nad("neta", `"test":{"fail":{"CHECK":8}}`)
	e.must("ADD")
	e.calls()
	e.mustFail("CHECK", types.ErrInvalidNetNS, "network ns1/neta, interface net1")
	assert.Equal(t, []string{"CHECK eth0", "CHECK net1", "CHECK net2"}, names(e.calls()))
}

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

// Containers from before the installation are listed and have no record. The
// default network keeps them; of others it is not known.
func TestGCOfContainersWithoutARecord(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	require.Nil(t, e.gc("old").Err)
	assert.Equal(t, map[string][]string{"dflt": listOf("old eth0")}, lists(t, e.calls()))
	e.must("ADD")
	e.calls()
	require.Nil(t, e.gc("old", "c1").Err)
	assert.Equal(t, map[string][]string{"dflt": listOf("c1 eth0", "old eth0")}, lists(t, e.calls()))
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
	assert.Equal(t, map[string][]string{"dflt": listOf("c1 eth0", "lost eth0")}, lists(t, e.calls()), "lost has a net1")
	require.NoError(t, os.RemoveAll(filepath.Join(e.dir, "state")))
	require.Nil(t, e.gc("c1").Err)
	assert.Equal(t, map[string][]string{"dflt": listOf("c1 eth0")}, lists(t, e.calls()), "c1 has a net1")

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
			require.Nil(t, e.gc("old").Err)
			assert.Equal(t, map[string][]string{"cluster": listOf("old eth0")}, lists(t, e.calls()))
		})
	}
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

// What lies about in the state directory hinders nobody.
func TestGCWithStrayFiles(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.must("ADD")
	e.calls()
	for _, name := range []string{"README", "notes.txt", "core", "records/README", "results/README", "results/x-y-z"} {
		require.NoError(t, os.WriteFile(filepath.Join(e.dir, "state", name), []byte("not of a container"), 0o600))
	}
	out := e.gc("c1")
	require.Nil(t, out.Err)
	assert.Len(t, lists(t, e.calls()), 3)
	assert.Contains(t, out.Stderr, "README")
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
	require.Nil(t, e.gc("c1").Err)
	calls := e.calls()
	list := listOf("c1 net1", "c1 net2", "c1 net3")[0]
	assert.Equal(t, []string{list, list}, lists(t, calls)["same"])
	assert.Equal(t, []string{`"a"`, `"b"`}, []string{calls[1].member(t, "from"), calls[2].member(t, "from")})
}

func TestStatus(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.must("STATUS")
	assert.Equal(t, []string{"STATUS "}, names(e.calls()))
	assert.Empty(t, e.api.Requests())

	for code := range map[uint]bool{types.ErrPluginNotAvailable: true, types.ErrLimitedConnectivity: true} {
		script, err := json.Marshal(map[string]any{"fail": map[string]uint{"STATUS": code}})
		require.NoError(t, err)
		e.delegate(`{"name":"dflt","type":"recorder","cniVersion":"1.1.0","test":` + string(script) + `}`)
		e.mustFail("STATUS", code, "told to fail")
	}
	e.delegate(`{"name":"dflt","type":"not-installed","cniVersion":"0.4.0"}`)
	e.mustFail("STATUS", types.ErrPluginNotAvailable, "not installed")
}

func TestStatusOfOurOwn(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		set  map[string]any
		want string
	}{
		"configuration":   {map[string]any{"statusPolicy": "x"}, "statusPolicy"},
		"default network": {map[string]any{"clusterNetwork": "/does/not/exist"}, "clusterNetwork"},
		"readiness file":  {map[string]any{"readinessindicatorfile": "/does/not/exist"}, "not ready"},
		"kubeconfig":      {map[string]any{"kubeconfig": "/does/not/exist"}, "kubeconfig"},
		"state directory": {map[string]any{"cniDir": "/dev/null/x"}, "cniDir"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			for k, v := range tc.set {
				e.conf[k] = v
			}
			e.mustFail("STATUS", types.ErrPluginNotAvailable, tc.want)
		})
	}
}

func TestStatusMayDependOnTheAPI(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.conf["apiTimeout"] = "6s"
	e.api.Fault(func(w http.ResponseWriter, _ *http.Request) bool {
		apitest.Fail(w, http.StatusServiceUnavailable, "no")
		return true
	})
	e.must("STATUS")
	e.conf["statusRequiresAPI"] = true
	e.mustFail("STATUS", types.ErrPluginNotAvailable, "503")
}

func TestReadinessFile(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	file := filepath.Join(e.dir, "run", "deep", "ready")
	e.conf["readinessindicatorfile"] = file
	cmd := e.command("ADD", e.stdin(nil))
	require.NoError(t, cmd.Start())
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, cmd.Wait())
	assert.Equal(t, []string{"ADD eth0"}, names(e.calls()))

	require.NoError(t, os.Remove(file))
	e.must("DEL")
	e.conf["readinessTimeout"] = "100ms"
	e.mustFail("ADD", types.ErrTryAgainLater, "readinessindicatorfile "+file)
	assert.Equal(t, []string{"DEL eth0"}, names(e.calls()))
}

func TestVersion(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	out := e.exec("VERSION", nil)
	require.Nil(t, out.Err)
	var v struct{ SupportedVersions []string }
	require.NoError(t, json.Unmarshal([]byte(out.Stdout), &v))
	assert.Equal(t, []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}, v.SupportedVersions)
}
