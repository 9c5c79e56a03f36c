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
	assert.Empty(t, e.calls())
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

func TestDelOfAnUnknownContainer(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.api.Stop()
	out := e.must("DEL")
	assert.Empty(t, e.calls())
	assert.Contains(t, out.Stderr, "nothing is recorded")
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

func TestHangingDelegate(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.conf["delegateTimeout"] = "300ms"
	e.nad("neta", `"test":{"hang":"ADD","stderr":"about to hang"}`)
	e.mustFail("ADD", types.ErrInternal, "plugin recorder: killed at the deadline of 300ms; stderr: about to hang")
	assert.Equal(t, []string{"ADD eth0", "ADD net1", "DEL net1", "DEL eth0"}, names(e.calls()))
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
	e.must("ADD")
	assert.Equal(t, []string{"DEL net2", "DEL net1", "DEL eth0", "ADD eth0", "ADD net1", "ADD net2"}, names(e.calls()))
}
