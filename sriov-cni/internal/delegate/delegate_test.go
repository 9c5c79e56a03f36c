// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/require"
)

// install puts a shell script named plugin alone into CNI_PATH.
func install(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "plugin"), []byte("#!/bin/sh\n"+script), 0o755))
	t.Setenv("CNI_PATH", "/nonexistent:"+dir)
}

func TestFind(t *testing.T) {
	install(t, "")
	path, err := Find("plugin")
	require.NoError(t, err)
	require.Equal(t, "plugin", filepath.Base(path))
	for name, want := range map[string]string{
		"": "invalid plugin name", "../plugin": "invalid plugin name", "a/b": "invalid plugin name", "..": "invalid plugin name",
		"a\x00b": "invalid plugin name", strings.Repeat("a", 256): "invalid plugin name",
		"other": `failed to find plugin "other" in path "/nonexistent:`,
	} {
		_, err := Find(name)
		require.ErrorContains(t, err, want)
		require.ErrorAs(t, err, new(NotFoundError))
	}
	t.Setenv("CNI_PATH", "/"+strings.Repeat("x", 300))
	_, err = Find("plugin")
	require.ErrorContains(t, err, "failed to find plugin")
	require.False(t, errors.As(err, new(NotFoundError)), "one directory could not be looked into")
}

func TestRun(t *testing.T) {
	install(t, `cat; echo "$CNI_COMMAND $CNI_IFNAME $CNI_CONTAINERID"`)
	t.Setenv("CNI_COMMAND", "GC")
	t.Setenv("CNI_IFNAME", "net1")
	t.Setenv("CNI_CONTAINERID", "c")
	out, err := Run(t.Context(), "plugin", "DEL", []byte("conf "), "CNI_IFNAME=net2")
	require.NoError(t, err)
	require.Equal(t, "conf DEL net2 c\n", string(out), "later variables replace those of this call")
}

// TestRunLeavesAProcess has a plugin whose child holds the output open for long.
func TestRunLeavesAProcess(t *testing.T) {
	install(t, "sleep 60 & echo done")
	out, err := Run(t.Context(), "plugin", "ADD", nil)
	require.NoError(t, err)
	require.Equal(t, "done\n", string(out))
}

func TestRunFails(t *testing.T) {
	for name, tc := range map[string]struct{ script, want string }{
		"reported":     {`echo '{"code":11,"msg":"try again","details":"later"}'; exit 1`, "try again; later"},
		"no report":    {"exit 3", "plugin failed without a CNI error: exit status 3"},
		"only stderr":  {"echo why >&2; exit 3", `plugin failed without a CNI error: exit status 3: "why"`},
		"other output": {"echo oops; exit 3", "plugin failed without a CNI error: exit status 3"},
	} {
		t.Run(name, func(t *testing.T) {
			install(t, tc.script)
			_, err := Run(t.Context(), "plugin", "ADD", nil)
			require.EqualError(t, err, tc.want)
			var reported *types.Error
			require.Equal(t, name == "reported", errors.As(err, &reported))
		})
	}
}

func TestRunIsStopped(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "started")
	install(t, "echo >"+fifo+"; exec sleep 60")
	require.NoError(t, os.WriteFile(fifo, nil, 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if text, err := os.ReadFile(fifo); err != nil || len(text) > 0 {
				cancel()
				return
			}
		}
	}()
	_, err := Run(ctx, "plugin", "ADD", nil)
	require.ErrorIs(t, err, context.Canceled)
}

// A plugin that does not end is stopped, and what it says is not kept without bound.
func TestRunIsBounded(t *testing.T) {
	limit := Limits["DEL"]
	defer func() { Limits["DEL"] = limit }()
	for script, want := range map[string]string{
		"exec sleep 1000":    "plugin was stopped: it took longer than 100ms",
		"exec cat /dev/zero": "plugin printed more than 1048576 bytes",
		"head -c 3000000 /dev/zero >&2; echo the end >&2; exit 1": "the end",
	} {
		Limits["DEL"] = limit
		if strings.Contains(script, "sleep") {
			Limits["DEL"] = 100 * time.Millisecond
		}
		install(t, script)
		_, err := Run(t.Context(), "plugin", "DEL", nil)
		require.ErrorContains(t, err, want)
		require.Less(t, len(err.Error()), 5*maxStderr)
	}
}

// What a network names without a leading slash is no file of the node, and none is made.
func TestRunFromNowhere(t *testing.T) {
	install(t, `cat etc/passwd; echo x >a-file && echo made; echo done`)
	out, err := Run(t.Context(), "plugin", "DEL", nil)
	require.NoError(t, err)
	require.Equal(t, "done\n", string(out))

	dir := os.Getenv("CNI_PATH")
	t.Chdir(strings.TrimPrefix(dir, "/nonexistent:"))
	t.Setenv("CNI_PATH", ".")
	_, err = Run(t.Context(), "plugin", "DEL", nil)
	require.NoError(t, err)
}

func TestAdd(t *testing.T) {
	const address = `{"address":"10.0.0.2/24","version":"4"}`
	for name, tc := range map[string]struct{ conf, out, want string }{
		"of its own version":       {`{"cniVersion":"1.1.0"}`, `{"cniVersion":"0.4.0","ips":[` + address + `]}`, "10.0.0.2"},
		"of the configuration's":   {`{"cniVersion":"1.0.0"}`, `{"ips":[{"address":"10.0.0.2/24"}]}`, "10.0.0.2"},
		"of none, so of the first": {`{}`, `{"ip4":{"ip":"10.0.0.2/24"}}`, "10.0.0.2"},
		"null":                     {`{"cniVersion":"1.0.0"}`, `null`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			install(t, "echo '"+tc.out+"'")
			result, err := Add(t.Context(), "plugin", []byte(tc.conf))
			require.NoError(t, err)
			if tc.want == "" {
				require.Empty(t, result.IPs)
				return
			}
			require.Len(t, result.IPs, 1)
			require.Equal(t, tc.want, result.IPs[0].Address.IP.String())
		})
	}
	for _, out := range []string{"", "{", `{"cniVersion":"7.0.0"}`, `[]`, `{"cniVersion":5}`} {
		install(t, "echo '"+out+"'")
		_, err := Add(t.Context(), "plugin", []byte("{}"))
		require.ErrorContains(t, err, "result of the plugin", "%q", out)
	}
}
