// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/internal/apitest"
)

// What a tenant writes into annotations and NADs costs little before it is refused.

func repeat(element string, n int) string {
	return strings.TrimSuffix(strings.Repeat(element+",", n), ",")
}

// measured runs an ADD with the pod's annotation from the API server, which has no
// limit of an environment or a pipe.
func (e *env) measured(annotation string) (out outcome, usage syscall.Rusage) {
	e.t.Helper()
	e.annotations = nil
	e.api.PutPod(podNS, podName, podUID, map[string]string{"k8s.v1.cni.cncf.io/networks": annotation})
	cmd := e.command("ADD", e.stdin(nil))
	var stdout strings.Builder
	cmd.Stdout = &stdout
	err := cmd.Run()
	out = outcome{Stdout: stdout.String(), Exit: cmd.ProcessState.ExitCode()}
	if err != nil {
		out.Err = &types.Error{}
		require.NoError(e.t, json.Unmarshal([]byte(stdout.String()), out.Err))
	}
	return out, *cmd.ProcessState.SysUsage().(*syscall.Rusage)
}

func TestManyNetworks(t *testing.T) {
	t.Parallel()
	t.Run("beyond the limit nothing is asked for", func(t *testing.T) {
		t.Parallel()
		for _, value := range []string{
			repeat("n", 65), repeat("n", 20000), repeat("n@a", 40000), "[" + repeat(`{"name":"n"}`, 65) + "]", "[" + repeat(`{"name":"n"}`, 19000) + "]",
		} {
			e := newEnv(t)
			e.detect()
			out, usage := e.measured(value)
			require.NotNil(t, out.Err)
			assert.Equal(t, types.ErrInvalidNetworkConfig, out.Err.Code)
			assert.Contains(t, out.Err.Msg, "more than the 64 a pod may select (maxNetworks")
			assert.Equal(t, []string{"GET pod1", "POST events"}, e.asked())
			assert.Less(t, usage.Maxrss, memoryLimit(60<<10), "KiB")
		}
	})
	t.Run("at the limit", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.nad("neta", "")
		e.networks(repeat("neta", 64))
		e.must("ADD")
		assert.Len(t, e.calls(), 65)
	})
	t.Run("the administrator's limit", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.conf["maxNetworks"] = 2
		e.networks("neta,neta,neta")
		e.mustFail("ADD", types.ErrInvalidNetworkConfig, "3 networks are more than the 2")
	})
	t.Run("few at a time, and none after a refusal", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		var now, most atomic.Int64
		e.api.Fault(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet || strings.Contains(r.URL.Path, "/pods/") {
				return false
			}
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m; m = most.Load() {
				if most.CompareAndSwap(m, n) {
					break
				}
			}
			apitest.Fail(w, http.StatusNotFound, strings.Repeat("no such network ", 100))
			return true
		})
		var all []string
		for i := range 64 {
			all = append(all, fmt.Sprintf("net%d", i))
		}
		out, _ := e.measured(strings.Join(all, ","))
		require.NotNil(t, out.Err)
		assert.LessOrEqual(t, most.Load(), int64(8))
		assert.LessOrEqual(t, len(e.api.Requests()), 2*8+2, "of 64")
		assert.LessOrEqual(t, len(out.Err.Msg), 4200)
	})
}

// The process has to read and to print what it got; that is all it takes. "flat" and
// "unknown keys" are accepted and so cost most: about 1 µs of CPU per key, linear in their
// number, with 45 000 keys some 40 ms more than without. Half is reading and merging them,
// half writing the record and libcni's entries, before and after ADD.
func TestNestedInput(t *testing.T) {
	t.Parallel()
	const size = 256<<10 - 100
	nested := func(n int) string { return strings.Repeat(`{"a":`, n/6) + "1" + strings.Repeat("}", n/6) }
	flat := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":1`, i)
		}
		return b.String()
	}
	for name, tc := range map[string]struct {
		annotation, nad string
		refused         string
	}{
		"annotation":   {annotation: `[{"name":"neta","cni-args":` + nested(size) + `}]`, nad: `{"type":"recorder"}`, refused: "nested deeper"},
		"brackets":     {annotation: strings.Repeat("[", size), nad: `{"type":"recorder"}`, refused: "nested deeper"},
		"NAD":          {annotation: `neta`, nad: `{"type":"recorder","args":{"cni":` + nested(size) + `}}`, refused: "nested deeper"},
		"both":         {annotation: `[{"name":"neta","cni-args":` + nested(12<<10) + `}]`, nad: `{"type":"recorder","args":{"cni":` + nested(12<<10) + `}}`, refused: "nested deeper"},
		"flat":         {annotation: `[{"name":"neta","cni-args":{` + flat(15000)[1:] + `}}]`, nad: `{"type":"recorder","args":{"cni":{` + flat(30000)[1:] + `}}}`},
		"unknown keys": {annotation: `[{"name":"neta"` + flat(20000) + `}]`, nad: `{"type":"recorder"` + flat(30000) + `}`},
		"numbers":      {annotation: `[{"name":"neta","bandwidth":{"ingressRate":` + strings.Repeat("9", 200000) + `}}]`, nad: `{"type":"recorder"}`, refused: "bandwidth"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.api.PutNAD(podNS, "neta", tc.nad, nil)
			out, usage := e.measured(tc.annotation)
			if tc.refused != "" {
				require.NotNil(t, out.Err)
				assert.Contains(t, out.Err.Msg, tc.refused)
				assert.LessOrEqual(t, len(out.Err.Msg), 4200)
			} else {
				require.Nil(t, out.Err)
			}
			assert.Less(t, usage.Maxrss, memoryLimit(100<<10), "KiB")
			assert.Less(t, time.Duration(usage.Utime.Nano()+usage.Stime.Nano()), 5*time.Second, "quadratic work takes minutes")
		})
	}
}

// Names in CNI_ARGS become parts of request paths.
func TestPodNamesThatLeadElsewhere(t *testing.T) {
	t.Parallel()
	for _, pod := range [][2]string{
		{"..", "secrets"}, {"ns1", ".."}, {"ns1", "../../secrets/x"}, {".", "."}, {"ns1", "."}, {"ns1/pods", "x"}, {"ns1", "a?watch=true"}, {"NS", "a"}, {"ns1", "a b"}, {"ns1", "pod1%2f.."},
	} {
		e := newEnv(t)
		e.annotations = nil
		e.args = "K8S_POD_NAMESPACE=" + pod[0] + ";K8S_POD_NAME=" + pod[1] + ";K8S_POD_UID=u"
		e.mustFail("ADD", types.ErrInvalidEnvironmentVariables, "CNI_ARGS: K8S_POD_NAME")
		assert.Empty(t, e.api.Requests())
		e.must("DEL")
		assert.Empty(t, e.api.Requests())
	}
}

// Files are named after network, container and interface. Where that is too long for a
// file, nothing is started, and nothing is left that could not be detached.
func TestNamesTooLongForAFile(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cniName string
		members string
		fails   string
	}{
		"just fits":           {cniName: strings.Repeat("n", 255-len("-c1-net1"))},
		"a byte more":         {cniName: strings.Repeat("n", 256-len("-c1-net1")), fails: "network ns1/neta: the configuration's name has 248 bytes, at most 247"},
		"much more":           {cniName: strings.Repeat("n", 5000), fails: "network ns1/neta: the configuration's name has 5000 bytes"},
		"device info of that": {cniName: strings.Repeat("n", 300), members: `,"capabilities":{"CNIDeviceInfoFile":true}`, fails: "network ns1/neta: the configuration's name has 300 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.api.PutNAD(podNS, "neta", `{"cniVersion":"1.1.0","name":"`+tc.cniName+`","type":"recorder"`+tc.members+`}`, nil)
			e.networks("neta")
			if tc.fails != "" {
				e.mustFail("ADD", types.ErrInvalidNetworkConfig, tc.fails)
				assert.Empty(t, e.calls(), "nothing was started")
			} else {
				e.must("ADD")
			}
			e.must("DEL")
			assert.Empty(t, e.leftovers())
		})
	}
}

// A record of before, whose attachment never had a file, is detached.
func TestDelOfANameTooLongForAFile(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.must("ADD")
	e.calls()
	data, err := os.ReadFile(e.recordPath())
	require.NoError(t, err)
	long := strings.Replace(string(data), `"name":"netb"`, `"deviceInfo":"/nonexistent/`+strings.Repeat("d", 300)+`","name":"`+strings.Repeat("n", 300)+`"`, 1)
	require.NotEqual(t, string(data), long)
	require.NoError(t, os.WriteFile(e.recordPath(), []byte(long), 0o600))
	e.must("DEL")
	assert.Equal(t, []string{"DEL net2", "DEL net1", "DEL eth0"}, names(e.calls()))
	assert.NoFileExists(t, e.recordPath())
}

// A network does not say what belongs to the runtime, nor which device its pod gets.
func TestMembersThatANetworkMayNotBring(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.kubelet(&kubelet{devices: []string{"0000:01:00.1"}})
	e.api.PutNAD(podNS, "neta", `{"cniVersion":"1.1.0","Type":"recorder","Capabilities":{"mac":true},"prevResult":{"ips":[null]},"RuntimeConfig":{"mac":"02:00:00:00:00:66"},
		"runtimeconfig":{"ips":["10.0.0.66"]},"DEVICEID":"0000:03:02.5","pcibusid":"0000:03:02.5","cni.dev/valid-attachments":[],"CNI.DEV/attachments":[]}`,
		map[string]string{"k8s.v1.cni.cncf.io/resourceName": "example.com/vf"})
	e.networks("neta")
	e.must("ADD")
	e.conf["cni.dev/valid-attachments"] = []map[string]string{{"containerID": "c1", "ifname": "eth0"}}
	e.must("GC")
	delete(e.conf, "cni.dev/valid-attachments")
	e.must("DEL")
	for _, c := range e.calls() {
		if c.Ifname != "net1" && c.Command != "GC" {
			continue
		}
		lower := strings.ToLower(c.Stdin)
		assert.NotContains(t, lower, "0000:03:02.5", c.Command)
		assert.NotContains(t, lower, "02:00:00:00:00:66", c.Command)
		assert.NotContains(t, lower, "10.0.0.66", c.Command)
		assert.NotContains(t, lower, "null", c.Command)
		assert.LessOrEqual(t, strings.Count(lower, `"prevresult"`), 1, c.Command)
		assert.LessOrEqual(t, strings.Count(lower, `"cni.dev/valid-attachments"`), 1, c.Command)
		if c.Command == "ADD" {
			assert.Equal(t, `"0000:01:00.1"`, c.member(t, "deviceID"))
			assert.Empty(t, c.member(t, "prevResult"))
			assert.Empty(t, c.member(t, "runtimeConfig"))
		}
	}
}

func TestDeviceOfAnotherPod(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.kubelet(&kubelet{devices: []string{"0000:01:00.1"}})
	e.nad("neta", allCaps)
	for _, key := range []string{"deviceID", "DEVICEID", "DeviceId"} {
		e.networks(`[{"name":"neta","` + key + `":"0000:03:02.5"}]`)
		e.mustFail("ADD", types.ErrInvalidNetworkConfig, `deviceID "0000:03:02.5": this device was not given to the pod`)
	}
	assert.Empty(t, e.calls())
	e.networks(`[{"name":"neta","deviceID":"0000:01:00.1"}]`)
	e.must("ADD")
	assert.Contains(t, e.calls()[1].member(t, "runtimeConfig"), `"deviceID":"0000:01:00.1"`)
	e.must("DEL")
	e.conf["deviceIDs"] = "any"
	e.networks(`[{"name":"neta","deviceID":"0000:03:02.5"}]`)
	e.must("ADD")
}

// Pointers in foreign JSON are not followed unseen, in any version.
func TestNullsInResults(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		e := newEnv(t)
		for _, members := range []string{
			`"ips":[null]`, `"interfaces":[null]`, `"routes":[null]`, `"IPs":[null]`, `"ips":null,"interfaces":null,"routes":null`, `"ip4":null`,
			`"ip4":{"ip":"10.0.0.1/24","routes":[null]}`, `"ip6":{"routes":null}`, `"dns":null`, `"ips":[{}]`, `"interfaces":[{}]`, `"ips":[{"interface":7}]`, `"ips":[{"interface":-1,"address":"10.0.0.1/24"}]`,
		} {
			e.delegate(`{"name":"dflt","type":"recorder","cniVersion":"` + version + `","test":{"stdout":{"ADD":` +
				string(mustJSON(`{"cniVersion":"`+version+`",`+members+`}`)) + `}}}`)
			out := e.run("ADD") // run demands one JSON document and exit code 1 or 0
			if out.Err != nil {
				assert.NotContains(t, out.Stderr, "panic")
			}
			e.must("DEL")
		}
	}
}

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// A token that is not known any more passes; it is not the user's mistake.
func TestUnauthorized(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.nad("neta", "")
	e.networks("neta")
	e.api.RotateServer("another")
	e.mustFail("ADD", types.ErrTryAgainLater, "401 Unauthorized")
	assert.NotContains(t, e.asked(), "POST events")
}

// A plugin that delegates is told by a tenant's network to run multus-shim, with the
// tenant's configuration as the node's own: a log file anywhere, programs of any directory.
func TestNetworkThatLeadsBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	evil := filepath.Join(e.dir, "evil")
	require.NoError(t, os.Mkdir(evil, 0o755))
	ran := filepath.Join(evil, "ran")
	require.NoError(t, os.WriteFile(filepath.Join(evil, "evil"), []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755))
	e.nad("back", fmt.Sprintf(`"test":{"Runs":"multus-shim"},"ipam":{"type":"multus-shim"},"binDir":%q,"logFile":%q,"cniDir":%q,"delegates":[{"cniVersion":"1.0.0","name":"x","type":"evil"}]`,
		evil, filepath.Join(evil, "log"), filepath.Join(evil, "state")))
	e.networks("back")
	e.mustFail("ADD", 7, "leads back to the meta plugin")
	e.must("DEL")
	for _, name := range []string{"ran", "log", "state"} {
		require.NoFileExists(t, filepath.Join(evil, name))
		require.NoDirExists(t, filepath.Join(evil, name))
	}
}

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
