// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// in is a path below the state directory.
func (e *env) in(elem ...string) string {
	return filepath.Join(append([]string{e.dir, "state"}, elem...)...)
}

// What is no regular file keeps no command waiting and does not count as nothing. Commands
// that would wait for the other end of a pipe never end, and so neither does the test.
func TestNoRegularFile(t *testing.T) {
	t.Parallel()
	pipe := func(path string) error { _ = os.Remove(path); return syscall.Mkfifo(path, 0o600) }
	nowhere := func(path string) error { _ = os.Remove(path); return os.Symlink("/nonexistent", path) }
	directory := func(path string) error { _ = os.Remove(path); return os.Mkdir(path, 0o700) }
	detached := []string{"DEL net2", "DEL net1", "DEL eth0"}
	for name, tc := range map[string]struct {
		damage func(*env) error
		fails  string // DEL's error; "" where another source tells all
	}{
		"record is a pipe":            {damage: func(e *env) error { return pipe(e.recordPath()) }},
		"record leads nowhere":        {damage: func(e *env) error { return nowhere(e.recordPath()) }},
		"record is a directory":       {damage: func(e *env) error { return directory(e.recordPath()) }},
		"record leads to itself":      {damage: func(e *env) error { _ = os.Remove(e.recordPath()); return os.Symlink("c1.json", e.recordPath()) }},
		"record is a pipe to another": {damage: func(e *env) error { _ = os.Remove(e.recordPath()); return os.Symlink(e.in("locks"), e.recordPath()) }},
		"one result is a pipe": {
			damage: func(e *env) error { _ = os.Remove(e.recordPath()); return pipe(e.in("results", "neta-c1-net1")) }, fails: "neta-c1-net1",
		},
		"one result leads nowhere": {
			damage: func(e *env) error { _ = os.Remove(e.recordPath()); return nowhere(e.in("results", "neta-c1-net1")) }, fails: "neta-c1-net1",
		},
		"one result is a directory": {
			damage: func(e *env) error { _ = os.Remove(e.recordPath()); return directory(e.in("results", "netb-c1-net2")) }, fails: "netb-c1-net2",
		},
		"a pipe where upstream has its file": {
			damage: func(e *env) error { _ = os.Remove(e.recordPath()); return pipe(e.in("c1")) },
		},
		"lock is a pipe":    {damage: func(e *env) error { return pipe(e.in("locks", "containers")) }},
		"a stray of others": {damage: func(e *env) error { return pipe(e.in("results", "x-c9-net1")) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := twoNetworks(t)
			e.must("ADD")
			e.calls()
			require.NoError(t, tc.damage(e))
			e.run("CHECK")
			e.gc("c1")
			for _, c := range e.calls() {
				assert.NotEqual(t, "DEL", c.Command, "c1 lives")
			}
			out := e.run("DEL")
			if tc.fails == "" {
				require.Nil(t, out.Err)
				assert.Equal(t, detached, names(e.calls()))
				return
			}
			require.NotNil(t, out.Err, "an attachment is left")
			assert.Contains(t, out.Err.Msg, tc.fails)
			assert.Len(t, e.calls(), 2, "the others are detached")
		})
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

// A list that is no list of attachments deletes nothing.
func TestGCRefusesOtherLists(t *testing.T) {
	t.Parallel()
	for _, attachment := range []map[string]string{
		{"containerID": "../../x", "ifname": "eth0"}, {"containerID": "c1@eth0", "ifname": "eth0"}, {"containerID": "", "ifname": "eth0"},
		{"containerID": "c1"}, {"containerID": "c1", "ifname": "../x"}, {"containerID": ".c1", "ifname": "eth0"}, {"containerID": "c1\n", "ifname": "eth0"},
		{"containerID": "c1", "ifname": strings.Repeat("e", 5000)}, nil,
	} {
		e := twoNetworks(t)
		e.must("ADD")
		e.calls()
		e.conf["cni.dev/valid-attachments"] = []map[string]string{{"containerID": "c2", "ifname": "eth0"}, attachment}
		out := e.mustFail("GC", types.ErrInvalidNetworkConfig, "cni.dev/valid-attachments, element 2: containerID")
		assert.Less(t, len(out.Err.Msg), 400)
		assert.Empty(t, e.calls(), "%v", attachment)
	}
}

// Two configurations with one state directory: libcni's entries do not tell whose they
// are, so that they stay when the one's runtime does not list the other's containers.
func TestGCOfASharedDirectory(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.must("ADD")
	e.conf["name"] = "another-net"
	e.container = "c2"
	e.must("ADD")
	e.container = "c3"
	e.must("ADD")
	e.calls()
	require.NoError(t, os.Remove(e.recordPath())) // c3: its entries are all that is left
	e.conf["name"] = "multus-net"
	require.Nil(t, e.gc("c1").Err)
	for _, c := range e.calls() {
		assert.NotEqual(t, "DEL", c.Command, "%s", c.Container)
		if c.Command == "GC" {
			for _, id := range []string{"c1", "c2", "c3"} {
				assert.Contains(t, c.Stdin, `"`+id+`"`, "the list is of all")
			}
		}
	}
	e.conf["name"] = "another-net"
	e.must("DEL")
	assert.Equal(t, []string{"DEL net2", "DEL net1", "DEL eth0"}, names(e.calls()))
}

// Two configurations with one state directory: whose a container is, only its record
// tells. While that cannot be read, the container lives and no plugin is asked.
func TestGCOfASharedDirectoryWithAnUnreadableRecord(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"cut":       func(path string) error { return os.Truncate(path, 50) },
		"version 2": func(path string) error { return os.WriteFile(path, []byte(`{"version":2,"containerID":"c2"}`), 0o600) },
		"pipe":      func(path string) error { _ = os.Remove(path); return syscall.Mkfifo(path, 0o600) },
		"directory": func(path string) error { _ = os.Remove(path); return os.Mkdir(path, 0o700) },
		"nowhere":   func(path string) error { _ = os.Remove(path); return os.Symlink("/nonexistent", path) },
		"itself":    func(path string) error { _ = os.Remove(path); return os.Symlink(filepath.Base(path), path) },
	} {
		for _, results := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, results %t", name, results), func(t *testing.T) {
				t.Parallel()
				e := twoNetworks(t)
				e.must("ADD")
				e.conf["name"] = "another-net"
				e.container = "c2"
				e.must("ADD")
				e.calls()
				require.NoError(t, damage(e.recordPath()))
				if !results {
					require.NoError(t, os.RemoveAll(e.in("results")))
				}
				e.conf["name"] = "multus-net"
				out := e.gc("c1")
				assert.Empty(t, e.calls(), "whether c2 lives is not known")
				require.NotNil(t, out.Err)
				assert.Contains(t, out.Err.Msg, "c2.json")
			})
		}
	}
}

// An answer that is not the object that was asked for is none: the pod waits.
func TestAnswersOfSomethingElse(t *testing.T) {
	t.Parallel()
	write := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	// In pieces: what this process holds counts for the programs that it starts.
	repeated := func(start, what string, n int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			const piece = 1000
			_, _ = io.WriteString(w, start)
			for range n / piece {
				_, _ = io.WriteString(w, strings.Repeat(what, piece))
			}
		}
	}
	const config = `"spec":{"config":"{\"type\":\"recorder\"}"}`
	for name, answer := range map[string]http.HandlerFunc{
		"empty object":      write("{}"),
		"null":              write("null"),
		"nothing":           write(""),
		"list":              write("[]"),
		"page":              write("<html>log in"),
		"status":            write(`{"kind":"Status","status":"Failure","code":404}`),
		"another name":      write(`{"metadata":{"name":"netz","namespace":"ns1"},` + config + `}`),
		"another namespace": write(`{"metadata":{"name":"neta","namespace":"ns2"},` + config + `}`),
		"two objects":       write(`{"metadata":{"name":"neta","namespace":"ns1"},` + config + `}{}`),
		"too large":         repeated(`{"metadata":{"name":"neta","namespace":"ns1"},"spec":{"config":"`, "a", 9<<20),
		"too deep":          repeated(`{"metadata":`, `{"a":`, 1_000_000),
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
		},
		"around in circles": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		},
		"not acceptable": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotAcceptable) },
		"tomorrow": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "86400")
			w.WriteHeader(http.StatusTooManyRequests)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.conf["apiTimeout"] = "2s"
			e.networks("neta")
			// A file of the network's name must not stand in.
			require.NoError(t, os.MkdirAll(filepath.Join(e.dir, "conf"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(e.dir, "conf", "10-neta.conf"), []byte(`{"name":"neta","type":"recorder"}`), 0o600))
			e.api.Fault(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "network-attachment") {
					answer(w, r)
					return true
				}
				return false
			})
			out := e.mustFail("ADD", types.ErrTryAgainLater, "ns1/neta")
			assert.Less(t, len(out.Err.Msg), 1000)
			assert.Empty(t, e.calls())
			for _, asked := range e.asked() {
				assert.NotEqual(t, "POST events", asked, "it is not the user's")
			}
		})
	}
}

// A log that cannot be written hinders no command.
func TestLogFiles(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(path string) error{
		"pipe without a reader": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"directory":             func(path string) error { return os.Mkdir(path, 0o700) },
		"full device":           func(path string) error { return os.Symlink("/dev/full", path) },
		"leads to itself":       func(path string) error { return os.Symlink(filepath.Base(path), path) },
		"no directory":          func(string) error { return nil },
	} {
		e := newEnv(t)
		path := filepath.Join(e.dir, "log")
		if name == "no directory" {
			path = filepath.Join(e.dir, "none", "log")
		}
		require.NoError(t, make(path), name)
		e.conf["logFile"] = path
		e.must("ADD")
		e.must("DEL")
		assert.Len(t, e.calls(), 2, name)
	}
}

// What a plugin may print.
func TestOddResults(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for text, want := range map[string]string{
		"":                            "unexpected end",
		"null":                        "not a JSON object",
		"[]":                          "not a JSON object",
		`"ok"`:                        "not a JSON object",
		`{"cniVersion":"1.1.0"}{}`:    "after top-level value",
		"\ufeff{}":                    "invalid character",
		`{"cniVersion":7}`:            "cniVersion",
		`{"cniVersion":"9.9.9"}`:      "9.9.9",
		`{"cniVersion":"0.1"}`:        "0.1",
		`{"ips":[{"address":""}]}`:    "address",
		`{"ips":[{"address":null}]}`:  "address",
		`{"ips":[{"interface":1.5}]}`: "1.5",
		`{"ips":{}}`:                  "ips",
		`{"ips":[{"interface":99999999999999999999}]}`: "99999999999999999999",
		`{"routes":[{"dst":null}]}`:                    "address",
		`{"routes":[{"dst":"0.0.0.0/0","gw":"none"}]}`: "none",
		`{"dns":{"nameservers":null}}`:                 "",
		`{"dns":[]}`:                                   "dns",
		`{"interfaces":[{"name":null,"mtu":-1}]}`:      "",
		`{"interfaces":[{"name":"` + strings.Repeat("n", 1<<16) + `","sandbox":"/x"}]}`: "",
		strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40):                     "nested deeper",
	} {
		for _, defaultRoute := range []bool{false, true} {
			e.nad("neta", `"test":{"stdout":{"ADD":`+string(mustJSON(text))+`}}`)
			e.networks("neta")
			if defaultRoute {
				e.networks(`[{"name":"neta","default-route":[]}]`)
			}
			out := e.run("ADD") // demands one JSON document and exit status 0 or 1
			label := fmt.Sprintf("%.60q", text)
			if want == "" {
				require.Nil(t, out.Err, label)
			} else {
				require.NotNil(t, out.Err, label)
				assert.Contains(t, out.Err.Msg, want, label)
				assert.Less(t, len(out.Err.Msg), 4300, label)
			}
			e.calls()
			e.must("DEL")
			assert.Empty(t, e.leftovers(), label)
		}
	}
}

// One GC takes as long as one command may; the next finds the containers that are left.
func TestGCIsBounded(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, id := range []string{"c1", "c2", "c3"} {
		e.container = id
		e.must("ADD")
	}
	e.calls()
	e.conf["delegateTimeout"] = "1ns"
	out := e.gc("c1")
	assert.Contains(t, out.Stderr, "stale containers are left for the next GC")
	for _, c := range e.calls() {
		assert.NotEqual(t, "DEL", c.Command)
	}
	delete(e.conf, "delegateTimeout")
	require.Nil(t, e.gc("c1").Err)
	assert.Equal(t, []string{"DEL eth0", "DEL eth0", "GC "}, names(e.calls()))
}
