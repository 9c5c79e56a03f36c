// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
)

const flannel = `{"name":"cbr0","type":"flannel"}`

// A file that is written in place is seen half-written; the network of the node's
// pods does not change for that.
func TestHalfWrittenPrimary(t *testing.T) {
	t.Parallel()
	for name, half := range map[string]string{"empty": "", "cut": calico[:40], "no plugin yet": `{"name":"k8s-pod-network","plugins":[]}`} {
		for _, restarted := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				n := newNode(t)
				n.write("net.d/10-calico.conflist", calico)
				n.write("net.d/20-flannel.conf", flannel)
				if restarted {
					require.NoError(t, n.once())
					n.opts.Once = false
					n.write("net.d/10-calico.conflist", half)
				}
				n.start()
				n.eventually(func() bool { return primaryOf(n) == "k8s-pod-network" })
				n.write("net.d/10-calico.conflist", half)
				n.token("token-2")
				n.eventually(func() bool { return n.read("net.d/multus.d/token") == "token-2" })
				assert.Equal(t, "k8s-pod-network", primaryOf(n))
				n.write("net.d/10-calico.conflist", strings.Replace(calico, "k8s-pod-network", "renamed", 1))
				n.eventually(func() bool { return primaryOf(n) == "renamed" })
				require.NoError(t, os.Remove(n.path("net.d/10-calico.conflist")))
				n.eventually(func() bool { return primaryOf(n) == "cbr0" })
				n.end()
			})
		}
	}
}

func TestLoopbackIsNoPrimary(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write("net.d/10-loopback.conflist", `{"name":"lo","cniVersion":"1.0.0","plugins":[{"type":"loopback"}]}`)
	n.write("net.d/99-loopback.conf", `{"cniVersion":"0.4.0","name":"lo","type":"loopback"}`)
	n.start()
	n.eventually(func() bool { return n.read("net.d/multus.d/token") == "token-1" })
	n.write("net.d/20-flannel.conf", flannel)
	n.eventually(func() bool { return primaryOf(n) != "" })
	assert.Equal(t, "cbr0", primaryOf(n))
	n.end()
}

func TestPrimaryBehindALink(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for dir, content := range map[string]string{"one": flannel, "two": strings.Replace(flannel, "cbr0", "cbr1", 1)} {
		require.NoError(t, os.MkdirAll(n.path("volume/"+dir), 0o755))
		n.write("volume/"+dir+"/primary.conf", content)
	}
	require.NoError(t, os.Symlink("one", n.path("volume/..data")))
	require.NoError(t, os.Symlink("..data/primary.conf", n.path("volume/primary.conf")))
	require.NoError(t, os.Symlink("../volume/primary.conf", n.path("net.d/10-flannel.conf")))
	n.start()
	n.eventually(func() bool { return primaryOf(n) == "cbr0" })
	require.NoError(t, os.Symlink("two", n.path("volume/..new")))
	require.NoError(t, os.Rename(n.path("volume/..new"), n.path("volume/..data")), "as kubelet replaces the files of a volume")
	n.eventually(func() bool { return primaryOf(n) == "cbr1" })
	n.end()
}

// Whatever is taken away or replaced comes back.
func TestRestores(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write("net.d/10-calico.conflist", calico)
	n.start()
	n.eventually(func() bool { return primaryOf(n) != "" })
	n.write("bin/multus", "of others")
	n.eventually(func() bool { return n.read("bin/multus") == "#!/bin/true" })
	require.NoError(t, os.Remove(n.path("bin/multus-shim")))
	n.eventually(func() bool { return n.read("bin/multus-shim") == "#!/bin/true" })
	require.NoError(t, os.Remove(n.path("net.d/multus.d/token")))
	n.eventually(func() bool { return n.read("net.d/multus.d/token") == "token-1" })
	require.NoError(t, os.Rename(n.path("net.d/multus.d"), n.path("gone")))
	n.eventually(func() bool {
		return n.read("net.d/multus.d/token") == "token-1" && n.read("net.d/multus.d/multus.kubeconfig") != ""
	})
	require.NoError(t, os.Rename(n.path("bin"), n.path("gone-too")))
	n.eventually(func() bool { return n.read("bin/multus") == "#!/bin/true" })
	require.NoError(t, os.Remove(n.path("net.d/"+singleName)))
	n.eventually(func() bool { return primaryOf(n) != "" })
	n.end()
}

// Somebody who undoes every write at once is noticed and named, not raced.
func TestOtherWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, singleName)
	var log bytes.Buffer
	now := time.Now()
	f := files{log: slog.New(slog.NewTextHandler(&log, nil)), now: func() time.Time { return now }}
	ours := []byte("ours")
	require.NoError(t, f.write(path, ours))
	writes := 0
	for range 10000 { // ten minutes of a neighbour that needs 60 ms for a turn
		if data, err := os.ReadFile(path); err == nil && string(data) == "ours" {
			writes++
			require.NoError(t, os.WriteFile(path, []byte(`{"type":"multus","name":"n"}`), 0o600))
		}
		require.NoError(t, f.write(path, ours))
		now = now.Add(60 * time.Millisecond)
		if wait := f.wait(); wait > 0 {
			assert.LessOrEqual(t, wait, maxPause)
		}
	}
	assert.Less(t, writes, 20)
	assert.Greater(t, writes, 5)
	assert.Less(t, strings.Count(log.String(), "\n"), 50)
	assert.Contains(t, log.String(), "plugin type multus")

	require.NoError(t, os.Rename(path, path+".cilium_bak"))
	now = now.Add(2 * maxPause)
	require.NoError(t, f.write(path, ours))
	assert.Contains(t, log.String(), "cni.exclusive")
	now = now.Add(calm + maxPause)
	require.NoError(t, os.Remove(path))
	require.NoError(t, f.write(path, ours))
	assert.FileExists(t, path, "after a while of calm it is written at once")
	other := []byte("our next")
	require.NoError(t, f.write(path, other))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, other, data, "a change of ours waits for nobody")
}

// The pod that comes up is ready when the node has its token: the one before may
// go then, and its token with it.
func TestCheck(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write("net.d/10-calico.conflist", calico)
	n.opts.Check = true
	check := func() error { return Run(t.Context(), n.opts, n.getenv, slog.New(slog.DiscardHandler)) }
	require.Error(t, check())
	n.opts.Check = false
	require.NoError(t, n.once())
	n.opts.Check = true
	require.NoError(t, check())
	n.write("net.d/multus.d/token", "of another pod")
	require.ErrorContains(t, check(), "another pod")
	n.write("net.d/multus.d/token", "token-1")
	require.NoError(t, os.Remove(n.path("net.d/"+singleName)))
	require.ErrorContains(t, check(), "primary network")
}

func TestSettings(t *testing.T) {
	t.Parallel()
	n := newNode(t, "-kubelet-dir", "/var/lib/k0s/kubelet", "-cni-dir", "/var/lib/state", "-capability-check", "strict", "-device-ids", "any",
		"-max-networks", "8", "-status-policy", "annotated", "-status-failure", "strict", "-events", "none", "-api-timeout", "3s",
		"-status-requires-api", "true", "-system-namespaces", "kube-system,infra", "-multus-namespace", "nets",
		"-cni-conf-dir-host", "/var/snap/microk8s/current/args/cni-network")
	n.write("net.d/10-calico.conflist", calico)
	require.NoError(t, n.once())
	c, err := conf.Parse([]byte(n.read("net.d/" + singleName)))
	require.NoError(t, err)
	assert.Empty(t, c.Unknown)
	assert.Equal(t, "/var/lib/k0s/kubelet /var/lib/state nets", c.KubeletDir+" "+c.CNIDir+" "+c.MultusNamespace)
	assert.Equal(t, conf.Policy{Status: conf.StatusAnnotated, StatusStrict: true, Events: conf.EventsNone, AnyDevice: true, MaxNetworks: 8, STATUSAsksAPI: true}, c.Policy)
	assert.Equal(t, 3*time.Second, c.Timeout.API)
	assert.Equal(t, []string{"kube-system", "infra"}, c.SystemNamespaces)
	assert.Equal(t, "/var/snap/microk8s/current/args/cni-network/multus.d/multus.kubeconfig", c.Kubeconfig)
	assert.FileExists(t, n.path("net.d/multus.d/multus.kubeconfig"))
}
