// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
	"github.com/sriovkit/sriovkit/device-plugin/plugin"
	"github.com/stretchr/testify/require"
)

func TestConfigWrittenInPlace(t *testing.T) {
	n := newNode(t, true, pool("b", `"drivers": ["iavf"]`))
	k := n.kubelet()
	n.start()
	k.AwaitDevices(b, testhost.VF0) // or it may start with the file while that is empty, and refuse
	require.NoError(t, os.WriteFile(n.options.ConfigFile, []byte(`{"resourceList": [`+pool("a", `"drivers": ["iavf"]`)+`]}`), 0o600))
	k.AwaitDevices(a, testhost.VF0)
}

func TestWaitForConfig(t *testing.T) {
	for name, tc := range map[string]struct {
		make func(path string) error
		want string
	}{
		"missing":    {func(string) error { return nil }, "no such file"},
		"unreadable": {func(path string) error { return os.Mkdir(path, 0o700) }, "is a directory"},
		"refused":    {func(path string) error { return os.WriteFile(path, []byte(`{"resourceList": [{}]}`), 0o600) }, "1:19: resourceName is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, true)
			file := n.options.ConfigFile
			require.NoError(t, os.Remove(file))
			require.NoError(t, tc.make(file))
			n.options.WaitForConfig = true
			// What an earlier process handed out is not to be cleaned up meanwhile.
			testhost.Write(t, "/", n.info("a", testhost.VF1), "{}")
			old := time.Now().Add(-time.Hour)
			require.NoError(t, os.Chtimes(n.info("a", testhost.VF1), old, old))
			k := n.kubelet()
			n.start()
			n.eventually(func() bool {
				err := n.plugin.Ready()
				return err != nil && strings.Contains(err.Error(), tc.want)
			}, "ready without configuration")
			n.rescans()
			require.Zero(t, testutil.ToFloat64(n.metrics.ConfigGood))
			if name != "missing" { // which is to have no pools, so that pods can end
				require.FileExists(t, n.info("a", testhost.VF1))
			}
			require.NoError(t, os.RemoveAll(file))
			n.configure(pool("a", `"drivers": ["iavf"]`))
			k.AwaitDevices(a, testhost.VF0)
			n.eventually(func() bool { return n.plugin.Ready() == nil }, "never ready")
		})
	}
}

// What is in the way of a read goes away without an event.
func TestConfigIsReadAgain(t *testing.T) {
	n := newNode(t, true, pool("b", `"drivers": ["iavf"]`))
	k := n.kubelet()
	n.start()
	k.AwaitDevices(b, testhost.VF0)
	away := filepath.Join(t.TempDir(), "away") // no event of a directory elsewhere reaches the watch
	require.NoError(t, os.Mkdir(away, 0o700))
	require.NoError(t, os.Symlink(filepath.Join(away, "later"), n.options.ConfigFile+".link"))
	require.NoError(t, os.Rename(n.options.ConfigFile+".link", n.options.ConfigFile))
	n.eventually(func() bool { return testutil.ToFloat64(n.metrics.ConfigGood) == 0 }, "nobody says so")
	require.NoError(t, os.WriteFile(filepath.Join(away, "later"), []byte(`{"resourceList": [`+pool("a", `"drivers": ["iavf"]`)+`]}`), 0o600))
	k.AwaitDevices(a, testhost.VF0)
}

func TestBadConfigAtStart(t *testing.T) {
	n := newNode(t, true)
	for name, tc := range map[string]struct{ text, want string }{
		"bad":     {`{"resourceList": [{}]}`, "config.json:1:19: resourceName is missing"},
		"no JSON": {`{`, "config.json:1:1: not JSON"},
		"missing": {"", "no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			n.replace(tc.text)
			if tc.text == "" {
				require.NoError(t, os.Remove(n.options.ConfigFile))
			}
			p, err := plugin.New(n.options, metrics.New("test"), slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			require.ErrorContains(t, p.Run(t.Context()), tc.want)
		})
	}
}
