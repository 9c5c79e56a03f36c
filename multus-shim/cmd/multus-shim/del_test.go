// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/record"
)

// twoNetworks is an env whose pod has net1 and net2 beside eth0.
func twoNetworks(t testing.TB) *env {
	t.Helper()
	e := newEnv(t)
	e.nad("neta", "")
	e.nad("netb", "")
	e.networks("neta,netb")
	return e
}

func (e *env) recordPath() string {
	return record.Store{Dir: e.conf["cniDir"].(string)}.Path(e.container)
}

func TestFailedAddIsUndone(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.nad("neta", `"test":{"fail":{"ADD":11}}`)
	out := e.mustFail("ADD", types.ErrTryAgainLater, "network ns1/neta, interface net1: plugin recorder: told to fail")
	assert.Equal(t, []string{"ADD eth0", "ADD net1", "DEL net1", "DEL eth0"}, names(e.calls()), "net2 is never touched")
	assert.Empty(t, e.leftovers())
	assert.NotContains(t, out.Stdout, `"interfaces"`)
}

func TestUndoThatFailsIsFinishedByDel(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.nad("neta", `"test":{"fail":{"ADD":7,"DEL":5}}`)
	out := e.mustFail("ADD", 7, "told to fail")
	assert.Contains(t, out.Err.Msg, "undo: detach network ns1/neta")
	e.calls()
	e.mustFail("DEL", 5, "detach network ns1/neta, interface net1")
	assert.Equal(t, []string{"DEL net1"}, names(e.calls()), "eth0 is detached already")
}

func TestDelTwice(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.must("ADD")
	e.must("DEL")
	e.calls()
	e.api.Forget()
	out := e.must("DEL")
	assert.Equal(t, []string{"DEL eth0"}, names(e.calls()), "as for a container from before the installation")
	assert.Empty(t, e.api.Requests())
	assert.Contains(t, out.Stderr, "nothing is recorded")
}

func TestDelNeedsNothing(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.must("ADD")
	adds := e.calls()
	e.api.DeleteNAD(podNS, "neta")
	connections := e.api.Connections()
	e.annotations = nil
	e.netns = ""
	e.delegate(`{"name":"changed","type":"gone"}`)
	e.must("DEL")
	assert.Equal(t, connections, e.api.Connections(), "it does not even look for the API server")
	dels := e.calls()
	require.Equal(t, []string{"DEL net2", "DEL net1", "DEL eth0"}, names(dels))
	for i, d := range dels {
		a := adds[2-i]
		assert.Empty(t, d.Netns)
		assert.Equal(t, a.Args, d.Args)
		prev := `,"prevResult":` + d.member(t, "prevResult")
		assert.Equal(t, a.Stdin, strings.Replace(d.Stdin, prev, "", 1), "the bytes of ADD")
	}
}

func TestDelOfOneThatFailsIsRetriedAlone(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.nad("neta", `"test":{"fail":{"DEL":11}}`)
	e.must("ADD")
	e.calls()
	e.mustFail("DEL", types.ErrTryAgainLater, "detach network ns1/neta, interface net1")
	assert.Equal(t, []string{"DEL net2", "DEL net1", "DEL eth0"}, names(e.calls()), "the others are not stopped by it")
	e.mustFail("DEL", types.ErrTryAgainLater, "network ns1/neta")
	assert.Equal(t, []string{"DEL net1"}, names(e.calls()))

	// The plugin recovers: the record holds the configuration that failed, so
	// mend that.
	data, err := os.ReadFile(e.recordPath())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(e.recordPath(), []byte(strings.Replace(string(data), `"DEL":11`, `"DEL":0`, 1)), 0o600))
	e.must("DEL")
	assert.Equal(t, []string{"DEL net1"}, names(e.calls()))
	assert.Empty(t, e.leftovers())
}

func TestDelWithDamagedRecord(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{0, 1, 50, 300} {
		e := twoNetworks(t)
		e.must("ADD")
		e.calls()
		require.NoError(t, os.Truncate(e.recordPath(), size))
		e.must("DEL")
		assert.ElementsMatch(t, []string{"DEL net2", "DEL net1", "DEL eth0"}, names(e.calls()), "from libcni's results")
		assert.Empty(t, e.leftovers())

		e = twoNetworks(t)
		e.must("ADD")
		e.calls()
		require.NoError(t, os.Truncate(e.recordPath(), size))
		require.NoError(t, os.RemoveAll(filepath.Join(e.dir, "state", "results")))
		e.mustFail("DEL", types.ErrIOFailure, e.recordPath())
		assert.Empty(t, e.calls(), "and no success with nothing done")
	}
}

// A record that parses and names nothing that could be run is as damaged as one that is cut.
func TestDelWithDamagedPlugins(t *testing.T) {
	t.Parallel()
	for old, damaged := range map[string]string{
		`"plugins":[{`: `"plugins":[null,{`, `"type":"recorder"`: `"type":""`, `{"type":"recorder`: `{"type":"../recorder`, `"name":"dflt","type"`: `"name":"dflt","tyqe"`,
	} {
		e := twoNetworks(t)
		e.must("ADD")
		e.calls()
		data, err := os.ReadFile(e.recordPath())
		require.NoError(t, err)
		text := strings.Replace(string(data), old, damaged, 1)
		require.NoError(t, os.WriteFile(e.recordPath(), []byte(text), 0o600))
		e.must("DEL")
		assert.ElementsMatch(t, []string{"DEL net2", "DEL net1", "DEL eth0"}, names(e.calls()), "from libcni's results")
		assert.Empty(t, e.leftovers())
	}
}

// A container from before the installation, or one whose record was lost: its
// default network stands in the configuration.
func TestDelOfAnUnknownContainer(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.delegate(`{"name":"dflt","cniVersion":"0.4.0","plugins":[{"type":"recorder","n":1},{"type":"recorder","n":2,"capabilities":{"portMappings":true}}]}`)
	e.api.Stop()
	e.conf["prevResult"] = json.RawMessage(`{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}`)
	out := e.exec("DEL", e.stdin(map[string]any{"portMappings": []any{map[string]any{"hostPort": 80}}}))
	require.Nil(t, out.Err)
	calls := e.calls()
	require.Equal(t, []string{"DEL eth0", "DEL eth0"}, names(calls))
	assert.Equal(t, "2", calls[0].member(t, "n"), "backwards")
	assert.JSONEq(t, `{"portMappings":[{"hostPort":80}]}`, calls[0].member(t, "runtimeConfig"), "what the runtime remembers")
	assert.JSONEq(t, `{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.2/24"}],"dns":{}}`, calls[0].member(t, "prevResult"))
	assert.Equal(t, e.args, calls[0].Args)
	assert.Contains(t, out.Stderr, "nothing is recorded")
	assert.Empty(t, e.leftovers())

	e.delegate(`{"name":"dflt","type":"recorder","test":{"fail":{"DEL":11}}}`)
	e.mustFail("DEL", types.ErrTryAgainLater, "detach network dflt, interface eth0")
}

// The same where the configuration names the default network.
func TestDelOfAnUnknownContainerWithAClusterNetwork(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	delete(e.conf, "delegates")
	e.confFile("by-name.conf", `{"name":"by_Name.1","type":"recorder"}`)
	e.conf["clusterNetwork"] = "by_Name.1"
	e.must("DEL")
	assert.Equal(t, []string{"DEL eth0"}, names(e.calls()))
	assert.Empty(t, e.api.Requests(), "no object has that name")
	e.confFile("net/10-a.conflist", `{"name":"a","plugins":[{"type":"recorder"}]}`)
	e.conf["clusterNetwork"] = e.confPath("net/10-a.conflist")
	e.must("DEL")
	assert.Equal(t, []string{"DEL eth0"}, names(e.calls()))
	e.api.PutNAD("kube-system", "cluster", `{"type":"recorder"}`, nil)
	e.conf["clusterNetwork"] = "cluster"
	e.must("DEL")
	assert.Equal(t, []string{"DEL eth0"}, names(e.calls()))
	e.api.Stop()
	e.mustFail("DEL", types.ErrTryAgainLater, "kube-system/cluster")
}

// An attachment of which only the name of a file is left is not forgotten.
func TestDelWithUnreadableResults(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(e *env){
		"record gone": func(e *env) { require.NoError(t, os.Remove(e.recordPath())) },
		"record torn": func(e *env) { require.NoError(t, os.Truncate(e.recordPath(), 50)) },
		"no attachments": func(e *env) {
			require.NoError(t, os.WriteFile(e.recordPath(), []byte(`{"version":1,"containerID":"c1","ifname":"eth0","attachments":[]}`), 0o600))
		},
		"no interface": func(e *env) {
			require.NoError(t, os.WriteFile(e.recordPath(), []byte(`{"version":1,"containerID":"c1","attachments":[{"name":"dflt","ifname":"eth0","plugins":[{"type":"recorder"}]}]}`), 0o600))
		},
	} {
		for content, what := range map[string]string{"": "empty", "{}": "empty object", `{"kind":"cniCacheV1","containerId":"c1"`: "torn"} {
			t.Run(name+", result "+what, func(t *testing.T) {
				t.Parallel()
				e := twoNetworks(t)
				e.must("ADD")
				e.calls()
				damage(e)
				result := filepath.Join(e.dir, "state", "results", "neta-c1-net1")
				require.NoError(t, os.WriteFile(result, []byte(content), 0o600))
				e.mustFail("DEL", types.ErrIOFailure, result)
				assert.ElementsMatch(t, []string{"DEL net2", "DEL eth0"}, names(e.calls()), "what can be detached is")
				e.mustFail("DEL", types.ErrIOFailure, result)
				require.NoError(t, os.Remove(result))
				if name == "record gone" {
					e.must("DEL")
				}
			})
		}
	}
}

func TestDelOfAContainerFromBeforeTheUpgrade(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	list, err := json.Marshal([]map[string]any{
		{"Name": "dflt", "Bytes": []byte(`{"name":"dflt","type":"recorder"}`)},
		{"Name": "neta", "Bytes": []byte(`{"name":"neta","type":"recorder","cniVersion":"1.0.0"}`), "ifnameRequest": "foo"},
	})
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(e.dir, "state"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(e.dir, "state", e.container), list, 0o600))
	e.must("DEL")
	assert.Equal(t, []string{"DEL foo", "DEL eth0"}, names(e.calls()))
	assert.Empty(t, e.leftovers())
}

// A delegate that hangs costs the ADD, and what the undo has no time for is left to DEL.
// It is the only one that runs: the deadline may come as early as it likes.
func TestHangingDelegate(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.detect()
	e.delegate(`{"name":"dflt","type":"recorder","cniVersion":"1.1.0","test":{"hang":"ADD"}}`)
	e.conf["delegateTimeout"] = "1ms"
	e.mustFail("ADD", types.ErrInternal, "network dflt, interface eth0: plugin recorder: killed at the deadline of 1ms")
	delete(e.conf, "delegateTimeout")
	e.must("DEL")
	assert.Contains(t, names(e.calls()), "DEL eth0")
	assert.Empty(t, e.leftovers())
}

func TestDelegatesThatMisbehave(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ script, want string }{
		"garbage":   {`"stdout":{"ADD":"garbage"}`, "result of ADD"},
		"nothing":   {`"stdout":{"ADD":""}`, "result of ADD"},
		"null":      {`"stdout":{"ADD":"null"}`, "not a JSON object"},
		"a version": {`"result":{"cniVersion":"9.9.9"}`, "9.9.9"},
		"a signal":  {`"crash":"ADD","stderr":"last words"`, "signal: killed without a CNI error on stdout; stderr: last words"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.nad("neta", `"test":{`+tc.script+`}`)
			e.networks("neta")
			e.mustFail("ADD", types.ErrInternal, tc.want)
			assert.Equal(t, []string{"ADD eth0", "ADD net1", "DEL net1", "DEL eth0"}, names(e.calls()))
			assert.Empty(t, e.leftovers())
		})
	}
	e := newEnv(t)
	e.api.PutNAD(podNS, "neta", `{"type":"not-installed"}`, nil)
	e.networks("neta")
	e.mustFail("ADD", types.ErrInternal, `plugin "not-installed" is not installed in `)
}

func TestAddAfterAnAddThatDied(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.must("ADD")
	e.calls()
	data, err := os.ReadFile(e.recordPath())
	require.NoError(t, err)
	last := strings.LastIndex(string(data), `"added":true`)
	require.NoError(t, os.WriteFile(e.recordPath(), []byte(string(data[:last])+`"added":false`+string(data[last+len(`"added":true`):])), 0o600))
	e.must("ADD")
	assert.Equal(t, []string{"DEL net2", "DEL net1", "DEL eth0", "ADD eth0", "ADD net1", "ADD net2"}, names(e.calls()))
}

// A pod that is attached stays so.
func TestAddTwice(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.must("ADD")
	e.calls()
	e.mustFail("ADD", types.ErrInvalidEnvironmentVariables, "attached with eth0 already")
	assert.Empty(t, e.calls())
	e.must("DEL")
	assert.Equal(t, []string{"DEL net2", "DEL net1", "DEL eth0"}, names(e.calls()))
}

// A DEL that is killed while a network hangs leaves the rest to the next one, which begins
// with what was not tried: the default network gets its turn.
func TestDelGoesOnWhereItWasKilled(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, name := range []string{"neta", "netb", "netc"} {
		e.nad(name, `"test":{"hang":"DEL"}`)
	}
	e.networks("neta,netb,netc")
	e.must("ADD")
	e.calls()
	e.conf["delegateTimeout"] = "3s" // time enough to start on a busy machine
	cmd := e.command("DEL", e.stdin(nil))
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		data, _ := os.ReadFile(filepath.Join(e.dir, "calls"))
		return strings.Contains(string(data), `"net2"`)
	}, waitFor, tick)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.Equal(t, "DEL net3", names(e.calls())[0])

	require.NotNil(t, e.run("DEL").Err, "they hang")
	tried := names(e.calls())
	require.Contains(t, tried, "DEL eth0")
	assert.Equal(t, "DEL net3", tried[len(tried)-1], "it has been tried before the others")
	left, err := os.ReadFile(e.recordPath())
	require.NoError(t, err)
	assert.NotContains(t, string(left), `"ifname":"eth0","name"`, "it is detached")
	assert.Contains(t, string(left), `"ifname":"net3","name"`)
}
