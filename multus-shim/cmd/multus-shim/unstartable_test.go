// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What no plugin can be started with, or lacks a plugin, is refused before anything runs:
// its DEL would fail as its ADD does, and the pod would never end.
func TestNetworksThatCannotBeStarted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		config, pod, want string
		code              uint
	}{
		"20 000 addresses": {
			config: `{"type":"recorder"}`, pod: `[{"name":"neta","ips":["` + strings.Repeat(`10.0.0.1","`, 20_000) + `10.0.0.2"]}]`,
			want: "ask for fewer addresses", code: types.ErrInvalidNetworkConfig,
		},
		"a plugin is missing": {
			config: `{"type":"nowhere"}`, pod: "neta", want: `plugin "nowhere" is not installed in `, code: types.ErrInternal,
		},
		"a plugin is no program": {
			config: `{"type":"calls"}`, pod: "neta", want: `plugin "calls" is not installed in `, code: types.ErrInternal,
		},
		"the last of a chain is missing": {
			config: `{"cniVersion":"1.0.0","plugins":[{"type":"recorder"},{"type":"nowhere"}]}`, pod: "neta",
			want: `plugin "nowhere" is not installed in `, code: types.ErrInternal,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.api.PutNAD(podNS, "neta", tc.config, nil)
			e.networks(tc.pod)
			require.NoError(t, os.WriteFile(filepath.Join(e.dir, "bin", "calls"), []byte("#!/bin/sh\n"), 0o644))
			e.mustFail("ADD", tc.code, tc.want)
			assert.Empty(t, e.calls())
			assert.Empty(t, e.leftovers())
			e.must("DEL")
			assert.Equal(t, []string{"DEL eth0"}, names(e.calls()))
		})
	}
}

// A plugin that cannot be started has nothing to take back: the pod that selects it ends. What
// ran before it in the chain is taken back, and stays recorded until it is.
func TestPluginThatCannotBeStarted(t *testing.T) {
	t.Parallel()
	binaries := map[string]string{"foreign": "\x7fELF\x02\x01\x01 of another machine", "script": "#!/nowhere/sh\n"}
	for name, tc := range map[string]struct {
		config string
		calls  []string
		left   string // why DEL fails, "" if it does not
	}{
		"another architecture":        {`{"type":"foreign"}`, nil, ""},
		"an interpreter is missing":   {`{"type":"script"}`, nil, ""},
		"last of a chain":             {`{"cniVersion":"1.0.0","plugins":[{"type":"recorder"},{"type":"foreign"}]}`, []string{"ADD net1", "DEL net1"}, ""},
		"middle of a chain":           {`{"cniVersion":"1.0.0","plugins":[{"type":"recorder"},{"type":"script"},{"type":"recorder"}]}`, []string{"ADD net1", "DEL net1"}, ""},
		"behind one that cannot undo": {`{"cniVersion":"1.0.0","plugins":[{"type":"recorder","test":{"fail":{"DEL":100}}},{"type":"foreign"}]}`, []string{"ADD net1", "DEL net1"}, "told to fail"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			for name, content := range binaries {
				require.NoError(t, os.WriteFile(filepath.Join(e.dir, "bin", name), []byte(content), 0o755))
			}
			e.api.PutNAD(podNS, "neta", tc.config, nil)
			e.networks("neta")
			out := e.mustFail("ADD", types.ErrInternal, "cannot be started: fork/exec ")
			assert.Contains(t, out.Err.Msg, "network ns1/neta, interface net1")
			assert.Equal(t, slices.Concat([]string{"ADD eth0"}, tc.calls, []string{"DEL eth0"}), names(e.calls()))
			if tc.left != "" {
				assert.NotContains(t, e.mustFail("DEL", 100, tc.left).Err.Msg, "cannot be started")
				assert.Equal(t, []string{"DEL net1"}, names(e.calls()))
				return
			}
			assert.Empty(t, e.leftovers())
			e.must("DEL")
			assert.Equal(t, []string{"DEL eth0"}, names(e.calls()))
		})
	}
}

// The default network's plugin is for another architecture, or not there: no ADD gets anywhere,
// and the pods that failed can go. One that has been attached, which the runtime's result tells,
// stays until the plugin is mended.
func TestDefaultNetworkThatCannotBeStarted(t *testing.T) {
	t.Parallel()
	for name, plugins := range map[string]string{
		"another architecture": `{"type":"foreign"}`,
		"not installed":        `{"type":"absent"}`,
		"last of a chain":      `{"type":"recorder"},{"type":"foreign"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			require.NoError(t, os.WriteFile(filepath.Join(e.dir, "bin", "foreign"), []byte("\x7fELF\x02\x01\x01 of another machine"), 0o755))
			e.delegate(`{"name":"dflt","cniVersion":"1.0.0","plugins":[` + plugins + `]}`)
			require.NotNil(t, e.run("ADD").Err)
			out := e.must("DEL")
			assert.Contains(t, out.Stderr, "what its ADD could not run needs no DEL")
			assert.Empty(t, e.leftovers())
			e.conf["prevResult"] = json.RawMessage(`{"cniVersion":"1.0.0"}`)
			e.mustFail("DEL", types.ErrInternal, "the plugin cannot be run here")
			delete(e.conf, "prevResult")
			e.conf["cniVersion"] = "0.3.1"
			e.mustFail("DEL", types.ErrInternal, "the plugin cannot be run here")
		})
	}
	e := newEnv(t)
	e.delegate(`{"name":"dflt","cniVersion":"1.0.0","plugins":[{"type":"absent"},{"type":"recorder","test":{"fail":{"DEL":100}}}]}`)
	e.mustFail("DEL", 100, "told to fail")
}
