// SPDX-License-Identifier: Apache-2.0

package install

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/internal/apitest"
	"github.com/sriovkit/sriovkit/multus-shim/kube"
)

const podPath = "/api/v1/namespaces/kube-system/pods/install"

// inPod is a node whose installer asks about the pod that it runs in.
func inPod(t *testing.T, args ...string) (*node, *apitest.Server) {
	t.Helper()
	server := apitest.New(t)
	n := newNode(t, append([]string{"-skip-tls-verify", "-pod", "kube-system/install"}, args...)...)
	n.inCluster(server)
	return n, server
}

// inCluster gives the node a primary network, and its installer a service account and the
// API server.
func (n *node) inCluster(server *apitest.Server) {
	n.t.Helper()
	credentials, err := kube.Load(server.Kubeconfig())
	require.NoError(n.t, err)
	n.env = map[string]string{
		"KUBERNETES_SERVICE_HOST": credentials.Server.Hostname(), "KUBERNETES_SERVICE_PORT": credentials.Server.Port(),
	}
	n.write("sa/token", "first-token")
	n.write("net.d/10-calico.conflist", calico)
}

func status(id string) string {
	return `{"metadata":{"namespace":"kube-system","name":"install"},"status":{"containerStatuses":[{"containerID":"` + id + `"}]}}`
}

// Beside CRI-O the primary network's file must not lie, nor its name be another's.
func TestRuntimeDecidesHowTheConfigurationStands(t *testing.T) {
	t.Parallel()
	renamed, beside := []string{singleName, "10-calico.conflist.old", "multus.d"}, []string{singleName, "10-calico.conflist", "multus.d"}
	for name, tc := range map[string]struct {
		answer func(*apitest.Server)
		want   []string
	}{
		"CRI-O":      {func(s *apitest.Server) { s.Put(podPath, status("cri-o://1")) }, renamed},
		"containerd": {func(s *apitest.Server) { s.Put(podPath, status("containerd://1")) }, beside},
		"one of them has": {func(s *apitest.Server) {
			s.Put(podPath, strings.Replace(status("cri-o://1"), "[", `[{},{"containerID":""},`, 1))
		}, renamed},
		"may not ask": {forbid, beside},
		"no such pod": {func(*apitest.Server) {}, beside},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, server := inPod(t)
			tc.answer(server)
			n.opts.refusals = time.Nanosecond
			require.NoError(t, n.once())
			assert.Equal(t, tc.want, n.list("net.d"))
			assert.Equal(t, "k8s-pod-network", primaryOf(n))
		})
	}
}

// Until the runtime is known the node stays as it is, with or without a configuration.
func TestRuntimeIsAwaited(t *testing.T) {
	t.Parallel()
	for name, silence := range map[string]func(*apitest.Server){
		"not started": func(s *apitest.Server) { s.Put(podPath, status("")) },
		"no status":   func(s *apitest.Server) { s.Put(podPath, `{"metadata":{"namespace":"kube-system","name":"install"}}`) },
		"of another": func(s *apitest.Server) {
			s.Put(podPath, strings.Replace(status("containerd://1"), "install", "other", 1))
		},
		"server error": func(s *apitest.Server) { fail(s, http.StatusInternalServerError) },
		"not known":    func(s *apitest.Server) { fail(s, http.StatusUnauthorized) },
		"not yet":      forbid,
		"no such pod":  func(*apitest.Server) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, server := inPod(t)
			silence(server)
			n.start()
			n.eventually(func() bool { return len(server.Requests()) > 2 })
			assert.Equal(t, []string{"10-calico.conflist", "multus.d"}, n.list("net.d"))
			server.Fault(nil)
			server.Put(podPath, status("cri-o://1"))
			n.eventually(func() bool { return n.read("net.d/10-calico.conflist.old") != "" })
			n.end()
		})
	}
}

// An installer that does not know the runtime gives the file its name back all the same:
// the node would have no network.
func TestCleanupOfWhatAnotherInstallerRenamed(t *testing.T) {
	t.Parallel()
	n, server := inPod(t, "-cleanup-config-on-exit")
	server.Put(podPath, status("cri-o://1"))
	n.start()
	n.eventually(func() bool { return n.read("net.d/10-calico.conflist.old") != "" })
	n.opts.Cleanup = false
	n.end()

	again, silent := inPod(t, "-cleanup-config-on-exit")
	fail(silent, http.StatusInternalServerError)
	again.opts.ConfDir, again.opts.PrimaryDir = n.opts.ConfDir, n.opts.PrimaryDir
	require.NoError(t, os.RemoveAll(again.path("net.d")))
	again.start()
	n.eventually(func() bool { return len(silent.Requests()) > 0 })
	again.end()
	assert.Equal(t, []string{"10-calico.conflist"}, n.list("net.d"))
}

// A refusal that lasted is no answer for ever: when the rights are mended, the node is, too.
func TestRuntimeIsAskedAgain(t *testing.T) {
	t.Parallel()
	n, server := inPod(t)
	n.opts.refusals, n.opts.askAgain = time.Nanosecond, 10*time.Millisecond
	forbid(server)
	n.start()
	n.eventually(func() bool { return primaryOf(n) != "" })
	assert.Equal(t, []string{singleName, "10-calico.conflist", "multus.d"}, n.list("net.d"))
	fail(server, http.StatusInternalServerError)
	asked := len(server.Requests())
	n.eventually(func() bool { return len(server.Requests()) > asked+1 })
	server.Fault(nil)
	server.Put(podPath, status("cri-o://1"))
	n.eventually(func() bool { return n.read("net.d/10-calico.conflist.old") != "" })
	n.end()
	assert.Contains(t, n.read("net.d/"+singleName), `"name":"k8s-pod-network","type":"multus-shim"`)
}

// New flags reach a node whose primary network's file was renamed before.
func TestFlagsReachARenamedPrimary(t *testing.T) {
	t.Parallel()
	n := newNode(t, "-rename-conf-file")
	n.write("net.d/10-calico.conflist", calico)
	require.NoError(t, n.once())
	require.NotContains(t, n.read("net.d/"+singleName), "namespaceIsolation")
	n.opts.Isolation = true
	require.NoError(t, n.once())
	assert.Contains(t, n.read("net.d/"+singleName), `"namespaceIsolation":true`)
	assert.Equal(t, "k8s-pod-network", primaryOf(n))
	assert.Equal(t, []string{singleName, "10-calico.conflist.old", "multus.d"}, n.list("net.d"))

	before := n.read("net.d/" + singleName)
	require.NoError(t, os.Remove(n.path("net.d/10-calico.conflist.old")))
	n.opts.Isolation = false
	require.NoError(t, n.once())
	assert.Equal(t, before, n.read("net.d/"+singleName), "nothing to make another of")
}
