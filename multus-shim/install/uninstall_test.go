// SPDX-License-Identifier: Apache-2.0

package install

import (
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/internal/apitest"
	"github.com/sriovkit/sriovkit/multus-shim/kube"
)

func TestCleanupOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	n := newNode(t, "-cleanup-config-on-exit", "-rename-conf-file")
	n.write("net.d/10-calico.conflist", calico)
	n.start()
	n.eventually(func() bool { return n.read("net.d/10-calico.conflist.old") != "" })
	assert.Equal(t, "k8s-pod-network", primaryOf(n))
	n.end()
	assert.Empty(t, primaryOf(n))
	assert.NoDirExists(t, n.path("net.d/multus.d"))
}

func TestCleanupGivesThePrimaryItsName(t *testing.T) {
	t.Parallel()
	n := newNode(t, "-cleanup-config-on-exit", "-rename-conf-file")
	n.write("net.d/10-calico.conflist", calico)
	n.start()
	n.eventually(func() bool { return n.read("net.d/10-calico.conflist.old") != "" })
	n.end()
	assert.Equal(t, []string{"10-calico.conflist"}, n.list("net.d"))
}

// The network in force comes back, not the one before it whose file was renamed as well.
func TestCleanupGivesTheLastPrimaryItsName(t *testing.T) {
	t.Parallel()
	n := newNode(t, "-cleanup-config-on-exit", "-rename-conf-file")
	n.write("net.d/10-calico.conflist", calico)
	n.start()
	n.eventually(func() bool { return n.read("net.d/10-calico.conflist.old") != "" })
	n.write("net.d/20-flannel.conf", `{"name":"cbr0","type":"flannel"}`)
	n.eventually(func() bool { return n.read("net.d/20-flannel.conf.old") != "" })
	n.end()
	assert.Equal(t, []string{"10-calico.conflist.old", "20-flannel.conf"}, n.list("net.d"))
}

const daemonSetPath = "/apis/apps/v1/namespaces/kube-system/daemonsets/multus-shim"

func forbid(s *apitest.Server) { fail(s, http.StatusForbidden) }

func fail(s *apitest.Server, code int) {
	s.Fault(func(w http.ResponseWriter, _ *http.Request) bool {
		apitest.Fail(w, code, "not now")
		return true
	})
}

// owned is a node whose installer belongs to a DaemonSet that it has seen, unless
// before keeps it from that.
func owned(t *testing.T, before func(*apitest.Server)) (*node, *apitest.Server) {
	t.Helper()
	server := apitest.New(t)
	server.Put(daemonSetPath, `{"metadata":{"name":"multus-shim"}}`)
	if before != nil {
		before(server)
	}
	n := newNode(t, "-skip-tls-verify", "-uninstall-with", "kube-system/multus-shim")
	n.inCluster(server)
	return n, server
}

// Only the proven end of its DaemonSet makes the installer take the configuration
// away: pods that start while it is merely replaced, or while the API server
// refuses it, find all they need. The binaries stay in any case.
func TestUninstallsWithItsDaemonSet(t *testing.T) {
	t.Parallel()
	nothing := func(*apitest.Server) {}
	remove := func(s *apitest.Server) { s.Delete(daemonSetPath) }
	for name, tc := range map[string]struct {
		before, change func(*apitest.Server)
		stays          bool
	}{
		"there": {change: nothing, stays: true},
		"going": {change: func(s *apitest.Server) {
			s.Put(daemonSetPath, `{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}}`)
		}},
		"gone":                               {change: remove},
		"forced":                             {change: func(s *apitest.Server) { s.RotateServer("of others") }, stays: true},
		"role binding is away":               {change: forbid, stays: true},
		"gone with its role":                 {change: func(s *apitest.Server) { remove(s); forbid(s) }},
		"role goes first":                    {change: func(s *apitest.Server) { forbid(s); remove(s) }},
		"gone with all":                      {change: func(s *apitest.Server) { s.RotateServer("of others"); remove(s) }},
		"never had the role":                 {before: forbid, change: nothing, stays: true},
		"never had the role, and it is gone": {before: forbid, change: remove, stays: true},
		"never was of that name":             {before: remove, change: nothing, stays: true},
		"made anew":                          {change: func(s *apitest.Server) { remove(s); s.Put(daemonSetPath, `{"metadata":{"name":"multus-shim"}}`) }, stays: true},
		"nobody answers":                     {change: (*apitest.Server).Stop, stays: true},
		"server errors":                      {change: func(s *apitest.Server) { fail(s, http.StatusGone) }, stays: true},
		"gone, then server errors":           {change: func(s *apitest.Server) { remove(s); fail(s, http.StatusGone) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, server := owned(t, tc.before)
			n.start()
			n.eventually(func() bool { return primaryOf(n) != "" })
			n.eventually(func() bool { return len(server.Requests()) > 0 })
			if tc.before == nil {
				n.eventually(func() bool { return n.owner.known() == kube.DaemonSetPresent })
			}
			tc.change(server)
			if !tc.stays {
				n.eventually(func() bool { return n.owner.known() > kube.DaemonSetPresent })
			}
			n.end()
			assert.Equal(t, []string{"multus", "multus-shim"}, n.list("bin"), "running pods are detached with them")
			if tc.stays {
				assert.Equal(t, []string{singleName, "10-calico.conflist", "multus.d"}, n.list("net.d"))
				return
			}
			assert.Equal(t, []string{"10-calico.conflist"}, n.list("net.d"))
		})
	}
}

// What is removed is what was written: two files and their directory if nothing
// else is in it.
func TestCleanupRemovesItsOwnFilesOnly(t *testing.T) {
	t.Parallel()
	n := newNode(t, "-cleanup-config-on-exit")
	n.write("net.d/10-calico.conflist", calico)
	n.write("net.d/20-other.conf", "of others")
	require.NoError(t, os.Mkdir(n.path("net.d/multus.d"), 0o700))
	n.write("net.d/multus.d/notes", "of others")
	n.start()
	n.eventually(func() bool { return primaryOf(n) != "" })
	n.end()
	assert.Equal(t, []string{"10-calico.conflist", "20-other.conf", "multus.d"}, n.list("net.d"))
	assert.Equal(t, []string{"notes"}, n.list("net.d/multus.d"))
}

// Another installer's files in the place of ours are the node's network: they stay.
func TestCleanupLeavesWhatAnotherInstallerWrote(t *testing.T) {
	t.Parallel()
	const (
		configuration = `{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus","delegates":[{"type":"calico"}]}`
		kubeconfig    = "kind: Config\nusers:\n- name: multus\n  user: {token: theirs}\n"
	)
	n := newNode(t, "-skip-config-watch", "-cleanup-config-on-exit")
	n.write("net.d/10-calico.conflist", calico)
	require.NoError(t, n.once())
	require.NoError(t, os.Remove(n.path("net.d/"+singleName)))
	n.write("net.d/"+singleName, configuration)
	n.write("net.d/multus.d/multus.kubeconfig", kubeconfig)
	require.NoError(t, cleanup(n.opts))
	assert.Equal(t, configuration, n.read("net.d/"+singleName))
	assert.Equal(t, kubeconfig, n.read("net.d/multus.d/multus.kubeconfig"))
	assert.Equal(t, []string{"multus.kubeconfig"}, n.list("net.d/multus.d"), "the token is ours")

	// The same text is ours if it was given to be installed.
	n.write("given.conf", configuration)
	n.opts.ConfFile = n.path("given.conf")
	require.NoError(t, cleanup(n.opts))
	assert.NoFileExists(t, n.path("net.d/"+singleName))
	assert.Equal(t, kubeconfig, n.read("net.d/multus.d/multus.kubeconfig"))
}

// An installer that fails is started again: it takes nothing away.
func TestNoCleanupAfterAnError(t *testing.T) {
	t.Parallel()
	n := newNode(t, "-cleanup-config-on-exit")
	n.write("net.d/10-calico.conflist", calico)
	require.NoError(t, n.once())
	require.NoError(t, os.Remove(n.path("sa/token")))
	require.Error(t, n.once())
	assert.Equal(t, "k8s-pod-network", primaryOf(n))
}

func TestBringsTheBinaryBack(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write("net.d/10-calico.conflist", calico)
	n.start()
	n.eventually(func() bool { return primaryOf(n) != "" })
	require.NoError(t, os.Remove(n.path("bin/multus-shim")))
	n.eventually(func() bool { return n.read("bin/multus-shim") != "" })
	n.end()
}
