// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/internal/mounttest"
	"github.com/sriovkit/sriovkit/multus-shim/kube"
)

const calico = `{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico","big":12345678901234567890},{"type":"portmap","capabilities":{"portMappings":true,"off":false}}]}`

func TestMain(m *testing.M) { os.Exit(mounttest.Run(m)) }

// node is a host's directories and a pod's environment.
type node struct {
	t     *testing.T
	dir   string
	opts  *Options
	owner *owner
	env   map[string]string
	stop  context.CancelFunc
	done  chan error
}

func newNode(t *testing.T, args ...string) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir(), env: map[string]string{"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}}
	for _, dir := range []string{"bin", "net.d", "sa"} {
		require.NoError(t, os.Mkdir(filepath.Join(n.dir, dir), 0o755))
	}
	n.write("sa/token", "token-1")
	n.write("sa/ca.crt", "-----BEGIN CERTIFICATE-----")
	n.write("multus-shim", "#!/bin/true")
	opts, err := Parse(append([]string{
		"-cni-bin-dir", n.path("bin"), "-cni-conf-dir", n.path("net.d"), "-service-account-dir", n.path("sa"),
		"-multus-bin-file", n.path("multus-shim"),
	}, args...), io.Discard)
	require.NoError(t, err)
	n.opts = opts
	return n
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

func (n *node) write(name, content string) {
	n.t.Helper()
	require.NoError(n.t, os.WriteFile(n.path(name), []byte(content), 0o600))
}

// token replaces the token as kubelet does: nobody reads half of it.
func (n *node) token(text string) {
	n.t.Helper()
	n.write("token", text)
	require.NoError(n.t, os.Rename(n.path("token"), n.path("sa/token")))
}

func (n *node) read(name string) string {
	data, _ := os.ReadFile(n.path(name))
	return string(data)
}

// list is what a directory holds.
func (n *node) list(name string) []string {
	n.t.Helper()
	entries, err := os.ReadDir(n.path(name))
	require.NoError(n.t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (n *node) getenv(key string) string { return n.env[key] }

func (n *node) start() {
	n.t.Helper()
	ctx, cancel := context.WithCancel(n.t.Context())
	n.stop, n.done = cancel, make(chan error, 1)
	log := slog.New(slog.DiscardHandler)
	n.owner = &owner{o: n.opts, log: log}
	go func() { n.done <- run(ctx, n.opts, n.getenv, log, n.owner) }()
}

func (n *node) end() {
	n.t.Helper()
	n.stop()
	require.NoError(n.t, <-n.done)
}

func (n *node) eventually(condition func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		require.True(n.t, time.Now().Before(deadline))
		select {
		case err := <-n.done:
			require.FailNow(n.t, "the installer has ended", "%v", err)
		default:
		}
	}
}

// once runs until everything is in place.
func (n *node) once() error {
	n.opts.Once = true
	return Run(n.t.Context(), n.opts, n.getenv, slog.New(slog.DiscardHandler))
}

func TestInstall(t *testing.T) {
	t.Parallel()
	n := newNode(t, "-namespace-isolation", "-global-namespaces", "shared", "-readiness-indicator-file", "/run/ready", "-multus-log-level", "debug")
	n.write("net.d/10-calico.conflist", calico)
	require.NoError(t, n.once())

	for _, name := range []string{"bin/multus-shim", "bin/multus"} {
		info, err := os.Stat(n.path(name))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o755), info.Mode())
		assert.Equal(t, "#!/bin/true", n.read(name))
	}
	c, err := conf.Parse([]byte(n.read("net.d/" + singleName)))
	require.NoError(t, err)
	assert.Equal(t, "0.3.1", c.CNIVersion, "the primary's, so no version gate")
	assert.JSONEq(t, calico, string(c.Delegates[0]))
	assert.Contains(t, string(c.Delegates[0]), "12345678901234567890")
	assert.True(t, c.Isolation)
	assert.Equal(t, []string{"shared"}, c.GlobalNamespaces)
	assert.Equal(t, "/run/ready", c.ReadinessFile)
	assert.Empty(t, c.Unknown)
	var raw struct{ Capabilities map[string]bool }
	require.NoError(t, json.Unmarshal(c.Raw, &raw))
	assert.Equal(t, map[string]bool{"portMappings": true, conf.AnnotationsCapability: true}, raw.Capabilities)

	credentials, err := kube.Load(n.path("net.d/multus.d/multus.kubeconfig"))
	require.ErrorContains(t, err, "no PEM certificate", "the test's is none")
	assert.Nil(t, credentials)
	n.opts.SkipTLSVerify = true
	require.NoError(t, n.once())
	credentials, err = kube.Load(n.path("net.d/multus.d/multus.kubeconfig"))
	require.NoError(t, err)
	assert.Equal(t, "https://[fd00::1]:443", credentials.Server.String())
	assert.Equal(t, n.path("net.d/multus.d/token"), credentials.TokenFile)
}

func TestListFromVersion1(t *testing.T) {
	t.Parallel()
	n := newNode(t, "-cni-version", "1.1.0", "-override-network-name")
	n.write("net.d/10-calico.conflist", calico)
	n.write("net.d/"+singleName, `{"type":"multus","name":"old","delegates":[]}`)
	require.NoError(t, n.once())
	assert.NoFileExists(t, n.path("net.d/"+singleName))
	var list struct {
		CNIVersion, Name string
		Plugins          []json.RawMessage
	}
	require.NoError(t, json.Unmarshal([]byte(n.read("net.d/"+listName)), &list))
	assert.Equal(t, "1.1.0 k8s-pod-network", list.CNIVersion+" "+list.Name)
	require.Len(t, list.Plugins, 1)
	_, err := conf.Parse(list.Plugins[0])
	require.NoError(t, err)
}

func TestWaitsForThePrimary(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write("net.d/05-old-multus.conf", `{"name":"m","type":"multus","delegates":[{"type":"x"}]}`)
	n.write("net.d/06-broken.conflist", `{"plugins":[`)
	n.start()
	n.eventually(func() bool { return n.read("net.d/multus.d/token") == "token-1" })
	assert.NoFileExists(t, n.path("net.d/"+singleName), "neither recursive nor empty")

	n.write("net.d/20-flannel.conf", `{"name":"cbr0","type":"flannel"}`)
	n.eventually(func() bool { return primaryOf(n) == "cbr0" })
	n.write("net.d/10-calico.conflist", calico)
	n.eventually(func() bool { return primaryOf(n) == "k8s-pod-network" })

	// The one in force stays when its source goes.
	require.NoError(t, os.Remove(n.path("net.d/10-calico.conflist")))
	n.eventually(func() bool { return primaryOf(n) == "cbr0" })
	require.NoError(t, os.Remove(n.path("net.d/20-flannel.conf")))
	n.token("token-2")
	n.eventually(func() bool { return n.read("net.d/multus.d/token") == "token-2" })
	assert.Equal(t, "cbr0", primaryOf(n))
	n.end()
	assert.Equal(t, "cbr0", primaryOf(n), "and when we go")
}

// primaryOf is the network name of the delegate in force, "" without one.
func primaryOf(n *node) string {
	for _, name := range []string{singleName, listName} {
		c, err := conf.Parse([]byte(n.read("net.d/" + name)))
		var d struct{ Name string }
		if err == nil && json.Unmarshal(c.Delegates[0], &d) == nil {
			return d.Name
		}
	}
	return ""
}

func TestPreference(t *testing.T) {
	t.Parallel()
	n := newNode(t, "-multus-master-cni-file-name", "*cilium*,20-flannel.conf")
	n.write("net.d/10-calico.conflist", calico)
	n.write("net.d/20-flannel.conf", `{"name":"cbr0","type":"flannel"}`)
	require.NoError(t, n.once())
	assert.Equal(t, "cbr0", primaryOf(n))
	n.write("net.d/99-cilium.conf", `{"name":"cilium","type":"cilium-cni"}`)
	require.NoError(t, n.once())
	assert.Equal(t, "cilium", primaryOf(n))
}

func TestFinishedConfiguration(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.opts.ConfFile = n.path("own.conf")
	n.write("own.conf", `{"name":"own","clusterNetwork":"/etc/cni/x.conf"}`)
	require.NoError(t, n.once())
	assert.Equal(t, n.read("own.conf"), n.read("net.d/"+singleName))
	n.write("own.conf", `{}`)
	require.ErrorContains(t, n.once(), `own.conf: neither "delegates"`)
	assert.NotEqual(t, n.read("own.conf"), n.read("net.d/"+singleName), "the good one stays")
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"unexpected argument":   {"now"},
		"-cni-version":          {"-cni-version", "new"},
		"syntax error":          {"-multus-master-cni-file-name", "["},
		"flag provided but not": {"-no-such-flag"},
		"-uninstall-with":       {"-uninstall-with", "multus-shim"},
	} {
		_, err := Parse(args, io.Discard)
		assert.ErrorContains(t, err, want)
	}
	for want, args := range map[string][]string{
		"directory of its own":        {"-cni-conf-dir-host", "/snap/cni-network", "-multus-kubeconfig-file-host", "/snap/cni-network/multus.kubeconfig"},
		"want an absolute path":       {"-cni-conf-dir-host", "net.d"},
		`capabilityCheck "sometimes"`: {"-capability-check", "sometimes"},
		`apiTimeout "10"`:             {"-api-timeout", "10"},
		`kubeletDir "kubelet"`:        {"-kubelet-dir", "kubelet"},
		"maxNetworks 0":               {"-max-networks", "0"},
		"want a number":               {"-max-networks", "many"},
		`logFile "multus.log"`:        {"-multus-log-file", "multus.log"},
		`readinessindicatorfile "x"`:  {"-readiness-indicator-file", "x"},
		`confDir "net.d"`:             {"-multus-cni-conf-dir", "net.d"},
		"-additional-bin-dir":         {"-additional-bin-dir", "bin"},
		`-cni-version "9.9.9"`:        {"-cni-version", "9.9.9"},
	} {
		_, err := Parse(args, io.Discard)
		assert.ErrorContains(t, err, want)
	}
	for _, path := range []string{
		"/", ".", "..", "multus.kubeconfig", "/multus.kubeconfig", "./multus.kubeconfig", "../multus.kubeconfig", "../../a/b",
		"net.d/multus.kubeconfig", "/net.d/multus.kubeconfig", "/etc/cni/net.d/multus.kubeconfig", "/etc/cni/net.d/../multus.kubeconfig",
		"/etc/cni/net.d/multus.d/..", "/etc/cni/net.d/multus.d/", "/etc/cni/net.d/multus.d/.", "/etc//cni/net.d/multus.d/k",
		"/etc/cni/net.d/multus.d/token", "/..", "/../..", "/../../k",
	} {
		_, err := Parse([]string{"-multus-kubeconfig-file-host", path}, io.Discard)
		assert.ErrorContains(t, err, "directory of its own", "%q", path)
	}
}
