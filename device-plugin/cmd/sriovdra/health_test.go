// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/command"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
)

// probe is what kubelet's probe of an instance says.
func (w *world) probe(socket string) string {
	w.Helper()
	var out bytes.Buffer
	if err := run(w.Context(), []string{"-probe", "-health-socket", socket}, &out, io.Discard); err != nil {
		return err.Error()
	}
	return out.String()
}

func (w *world) awaitProbe(p *program, says string) {
	w.Helper()
	var got string
	w.await(func() bool { got = w.probe(p.health); return strings.Contains(got, says) }, func() string { return got })
}

// A driver is ready when kubelet knows it and its slices are there. Before, its probe says
// what it waits for: an answer of the API server, or a configuration that is good, in which
// case the instance before it goes on with the last one that was.
func TestProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	good, err := os.ReadFile(w.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(w.config, []byte(`{"resourceList": [{}]}`), 0o600))
	var away atomic.Bool
	away.Store(true)
	w.reactions.Add("get", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		return away.Load(), nil, errors.New("connection refused")
	})
	w.driver = w.newDriver()
	w.awaitProbe(w.driver, "not registered with kubelet yet")
	w.awaitProbe(w.driver, "resourceName")
	require.NoError(t, os.WriteFile(w.config, good, 0o600))
	w.kube.AwaitDriver(driverName, true)
	w.awaitProbe(w.driver, "not ready: the Node's label is not read yet")
	require.Contains(t, w.probe(w.driver.health), "nothing is to be published yet")
	away.Store(false)
	w.awaitProbe(w.driver, "ready\n")
	w.awaitOffered(vfs(2)...)

	// What another process has left at the socket is in nobody's way.
	left := filepath.Join(w.root, "health2.sock")
	listener, err := net.Listen("unix", left)
	require.NoError(t, err)
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, listener.Close())
	require.Contains(t, w.probe(left), "no driver answers at ")
	fresh := w.newDriver()
	require.Equal(t, left, fresh.health)
	w.awaitProbe(fresh, "ready\n")
	fresh.end(t)
}

func TestProbeNeedsASocket(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), []string{"-probe"}, io.Discard, io.Discard)
	require.ErrorAs(t, err, new(command.UsageError))
	require.ErrorContains(t, err, "-probe without -health-socket: name the socket that the driver was given")
	require.ErrorContains(t, run(t.Context(), []string{"-probe", "-health-socket", "/nowhere/s"}, io.Discard, io.Discard), "no driver answers at /nowhere/s")
}

// Kubelet, the API server or the runtime would refuse them later, for reasons that name no flag.
func TestNamesOfDrivers(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"sriov_x.example.com":            "RFC 1123",
		strings.Repeat("a.", 40) + "com": "83 bytes; want at most 63",
		"3com.example.com":               "want a letter at its beginning",
		strings.Repeat("x", 63):          "",
		"sriovnetwork.example.com":       "",
	} {
		_, err := parseFlags([]string{"-driver-name", name, "-node-name", "n"}, io.Discard)
		if want == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorAs(t, err, new(command.UsageError), name)
		require.ErrorContains(t, err, "-driver-name "+strconv.Quote(name[:min(len(name), 80)]))
		require.ErrorContains(t, err, want)
	}
}
