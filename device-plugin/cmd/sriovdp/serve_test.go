// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/command"
	"github.com/sriovkit/sriovkit/device-plugin/internal/kubelettest"
	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The whole program, from its flags to its end.
func TestServe(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := free.Addr().String()
	require.NoError(t, free.Close())
	root, dir := testhost.New(t), t.TempDir()
	config := filepath.Join(dir, "config.json")
	require.NoError(t, os.WriteFile(config, []byte(`{"resourceList": [{"resourceName": "a", "selectors": {"drivers": ["iavf"]}}]}`), 0o600))
	kubelet := kubelettest.Root(t, true)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{
			"-config-file", config, "-resource-prefix=example.com", "-sysfs-root", root, "-captured", "-kubelet-dir", kubelet,
			"-metrics-address", address, "-log-dir", filepath.Join(dir, "log"), "-log-format=text",
			"-cdi-dir", filepath.Join(dir, "cdi"), "-device-info-dir", filepath.Join(dir, "devinfo"),
		}, io.Discard, io.Discard)
	}()
	get := func(path string) (code int, body string) {
		r, err := http.Get("http://" + address + path)
		if err != nil {
			return 0, err.Error()
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return 0, err.Error()
		}
		return r.StatusCode, string(text)
	}
	await := func(path string, code int, text string) {
		t.Helper()
		require.EventuallyWithT(t, func(t *assert.CollectT) {
			c, body := get(path)
			require.Equal(t, fmt.Sprintf("%d %s\n", code, text), fmt.Sprint(c, " ", body))
		}, 5*time.Minute, time.Millisecond, "%s", path)
	}
	await("/healthz", http.StatusOK, "ok")
	await("/readyz", http.StatusServiceUnavailable, "kubelet does not watch example.com/a yet")
	k := kubelettest.Start(t, kubelet)
	k.AwaitDevices("example.com/a", testhost.VF0)
	await("/readyz", http.StatusOK, "ok")
	_, metrics := get("/metrics")
	require.Contains(t, metrics, `sriovdp_devices{resource="example.com/a",state="healthy"} 1`)
	require.Contains(t, metrics, `sriovdp_build_info{version="devel"} 1`)

	cancel()
	require.NoError(t, <-ended)
	k.AwaitDevices("example.com/a")
	log, err := os.ReadFile(filepath.Join(dir, "log", "sriovdp.log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "msg=stopped")
}

func TestMetricsAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	config := filepath.Join(t.TempDir(), "config.json")
	require.NoError(t, os.WriteFile(config, []byte(`{"resourceList": []}`), 0o600))
	err = run(t.Context(), []string{
		"-config-file", config, "-sysfs-root", testhost.New(t), "-captured", "-kubelet-dir", kubelettest.Root(t, true),
		"-metrics-address", taken.Addr().String(),
	}, io.Discard, io.Discard)
	require.ErrorContains(t, err, "-metrics-address: listen tcp")
}

// Whoever fills the metrics port with connections that say nothing neither makes the process
// large nor keeps health from being asked, and is thrown out.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	var addresses []string
	for range 2 {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		_, port, err := net.SplitHostPort(free.Addr().String())
		require.NoError(t, err)
		addresses = append(addresses, port)
		require.NoError(t, free.Close())
	}
	config := filepath.Join(t.TempDir(), "config.json")
	require.NoError(t, os.WriteFile(config, []byte(`{"resourceList": null}`), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{
			"-config-file", config, "-sysfs-root", testhost.New(t), "-captured", "-kubelet-dir", kubelettest.Root(t, true),
			"-metrics-address", ":" + addresses[0], "-health-address", ":" + addresses[1],
		}, io.Discard, io.Discard)
	}()
	get := func(port, path string) int {
		r, err := http.Get("http://127.0.0.1:" + port + path)
		if err != nil {
			return 0
		}
		defer r.Body.Close()
		return r.StatusCode
	}
	require.Eventually(t, func() bool { return get(addresses[1], "/readyz") == http.StatusOK }, 5*time.Minute, time.Millisecond)
	require.Equal(t, http.StatusNotFound, get(addresses[0], "/readyz"))
	for range 200 {
		c, err := net.Dial("tcp", "127.0.0.1:"+addresses[0])
		require.NoError(t, err)
		defer c.Close()
	}
	require.Equal(t, http.StatusOK, get(addresses[1], "/healthz"))
	cancel()
	require.NoError(t, <-ended)
}

func TestAPortAloneIsOnLoopback(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{":9809": "127.0.0.1:9809", "0.0.0.0:9809": "0.0.0.0:9809", "[fd00::1]:9809": "[fd00::1]:9809", "": ""} {
		f, err := parseFlags([]string{"-metrics-address", text}, io.Discard)
		require.NoError(t, err)
		require.Equal(t, want, f.metricsAddress)
	}
	_, err := parseFlags([]string{"-health-address", "9809"}, io.Discard)
	require.ErrorAs(t, err, new(command.UsageError))
}
