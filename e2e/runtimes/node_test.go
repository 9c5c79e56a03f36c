// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/netns"
	"github.com/sriovkit/sriovkit/e2e/process"
)

// program builds multus-shim of a version, once per test process.
func program(t *testing.T, version string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if path := built.paths[version]; path != "" {
		return path
	}
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	path := filepath.Join("/var/lib", "multus-shim-"+version) // the namespace's own
	require.NoError(t, component.Compile(t.Context(), checkout, "multus-shim", "./cmd/multus-shim", path, "linux/"+goruntime.GOARCH, version))
	built.paths[version] = path
	return path
}

var built = struct { //nolint:gochecknoglobals // a cache of what takes seconds to make
	sync.Mutex
	paths map[string]string
}{paths: map[string]string{}}

// node is a host's directories, a runtime and the pods on it.
type node struct {
	t       *testing.T
	dir     string
	api     *api
	runtime runtime

	installer *process.Daemon
	end       func() // asks the installer to end
	living    []pod
	attached  []attached // of living and dead pods
}

// attached is what a plugin was asked to attach and not yet to detach.
type attached struct{ network, container, ifname string }

func newNode(t *testing.T, kind string) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir()}
	for _, dir := range []string{"bin", "net.d"} {
		require.NoError(t, os.Mkdir(n.path(dir), 0o755))
	}
	self, err := os.Executable()
	require.NoError(t, err)
	for _, name := range []string{"primary", "other", "extra"} {
		require.NoError(t, os.Symlink(self, n.path("bin", name)))
	}
	n.api = newAPI(t, n.config("extra"), runtimes[kind].scheme+"://1")
	n.api.serviceAccount(t, n.path("sa"))
	n.write("10-primary.conflist", n.config("primary"))
	n.runtime = runtimes[kind].make(t, n.dir)
	n.runtime.load(t)
	return n
}

func (n *node) path(elem ...string) string { return filepath.Join(append([]string{n.dir}, elem...)...) }

// config is a network whose plugin has its name.
func (n *node) config(name string) string {
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,"plugins":[{"type":%q,"log":%q}]}`, name, name, n.path("calls"))
}

func (n *node) write(name, content string) {
	n.t.Helper()
	require.NoError(n.t, os.WriteFile(n.path("net.d", name), []byte(content), 0o600))
}

// install starts an installer of a version and waits until the given network is the
// default one of the configuration in force, and the binary the version's.
func (n *node) install(version, primary string) {
	n.t.Helper()
	binary := program(n.t, version)
	cmd := exec.Command(binary,
		"install", "-cni-bin-dir", n.path("bin"), "-cni-conf-dir", n.path("net.d"), "-cni-conf-dir-host", n.path("net.d"),
		"-service-account-dir", n.path("sa"), "-cni-dir", n.path("state"), "-kubelet-dir", n.path("kubelet"),
		"-device-info-dir", n.path("devinfo"), "-uninstall-with", "kube-system/multus-shim", "-pod", "kube-system/installer",
	)
	cmd.Env = append(os.Environ(), n.api.environ()...)
	d, err := process.StartDaemon("install-"+version, n.dir, cmd, nil)
	require.NoError(n.t, err)
	n.t.Cleanup(d.Kill)
	n.installer, n.end = d, func() { require.NoError(n.t, cmd.Process.Signal(syscall.SIGTERM)) }
	n.inForce(primary)
	want, err := os.ReadFile(binary)
	require.NoError(n.t, err)
	n.eventually(func() bool {
		have, _ := os.ReadFile(n.path("bin", "multus-shim"))
		return slices.Equal(want, have)
	})
}

// stop ends the installer as the kubelet does.
func (n *node) stop() {
	n.t.Helper()
	n.end()
	<-n.installer.Exited()
}

// inForce waits until multus-shim has a default network, and loads that.
func (n *node) inForce(primary string) {
	n.t.Helper()
	n.eventually(func() bool {
		data, _ := os.ReadFile(n.path("net.d", "00-multus.conflist"))
		var c struct {
			Plugins []struct{ Delegates []struct{ Name string } }
		}
		return json.Unmarshal(data, &c) == nil && len(c.Plugins) == 1 && c.Plugins[0].Delegates[0].Name == primary
	})
	n.runtime.load(n.t)
}

func (n *node) eventually(condition func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		require.True(n.t, time.Now().Before(deadline), "%s", tail(n.installer))
	}
}

func tail(d *process.Daemon) string {
	if d == nil {
		return ""
	}
	return process.Tail(d.LogPath)
}

// setUp starts a pod and says which plugins saw it.
func (n *node) setUp(id, networks string, want ...string) pod {
	n.t.Helper()
	ns, err := netns.New(n.t.Context())
	require.NoError(n.t, err)
	n.t.Cleanup(func() { _ = ns.Close() })
	p := pod{id: id, netns: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.File.Fd()), networks: networks}
	require.NoError(n.t, n.runtime.setUp(n.t, p))
	n.living = append(n.living, p)
	n.saw(p, want...)
	n.collect()
	return p
}

// tearDown ends a pod, twice as the kubelet may, and says which plugins saw it.
func (n *node) tearDown(p pod, want ...string) {
	n.t.Helper()
	require.NoError(n.t, n.runtime.tearDown(n.t, p))
	n.living = slices.DeleteFunc(n.living, func(l pod) bool { return l == p })
	n.saw(p, want...)
	n.collect()
}

// collect is a GC in between: no network's list lacks one of its attachments. It returns
// the networks whose plugins were asked.
func (n *node) collect() (networks []string) {
	n.t.Helper()
	require.NoError(n.t, n.runtime.collect(n.t, n.living))
	for _, c := range n.calls() {
		assert.NotContains(n.t, []string{"ADD", "DEL"}, c.Command, "%+v", c)
		if c.Command == "GC" {
			networks = append(networks, c.Network)
		}
		for _, a := range n.attached {
			if c.Command == "GC" && c.Network == a.network {
				assert.Contains(n.t, c.Valid, attachment{ContainerID: a.container, IfName: a.ifname}, "the list of network %s", c.Network)
			}
		}
	}
	return networks
}

// saw compares the calls since the last look, without CHECK and STATUS.
func (n *node) saw(p pod, want ...string) {
	n.t.Helper()
	var have []string
	for _, c := range n.calls() {
		a := attached{c.Network, c.Container, c.Ifname}
		switch c.Command {
		case "ADD":
			n.attached = append(n.attached, a)
		case "DEL":
			n.attached = slices.DeleteFunc(n.attached, func(b attached) bool { return a == b })
		default:
			continue
		}
		assert.Equal(n.t, p.id, c.Container)
		have = append(have, c.Command+" "+c.Network+" "+c.Ifname)
	}
	assert.Equal(n.t, want, have, "pod %s", p.id)
}

// calls are those since the last look.
func (n *node) calls() []call {
	n.t.Helper()
	data, err := os.ReadFile(n.path("calls"))
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(n.t, err)
	require.NoError(n.t, os.Remove(n.path("calls")))
	var calls []call
	for line := range strings.Lines(string(data)) {
		var c call
		require.NoError(n.t, json.Unmarshal([]byte(line), &c))
		calls = append(calls, c)
	}
	return calls
}
