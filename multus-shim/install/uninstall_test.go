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

// Only the end of its DaemonSet makes the installer take everything away: pods
// that start while it is merely replaced find all they need.
func TestUninstallsWithItsDaemonSet(t *testing.T) {
	t.Parallel()
	const path = "/apis/apps/v1/namespaces/kube-system/daemonsets/multus-shim"
	refuse := func(s *apitest.Server) {
		s.Fault(func(w http.ResponseWriter, _ *http.Request) bool {
			apitest.Fail(w, http.StatusForbidden, "no such right")
			return true
		})
	}
	for name, tc := range map[string]struct {
		before, change func(*apitest.Server)
		stays          bool
	}{
		"there":              {change: func(*apitest.Server) {}, stays: true},
		"going":              {change: func(s *apitest.Server) { s.Put(path, `{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}}`) }},
		"gone":               {change: func(s *apitest.Server) { s.Delete(path) }},
		"gone with its role": {change: refuse},
		"gone with all":      {change: func(s *apitest.Server) { s.RotateServer("of others") }},
		"never had the role": {before: refuse, change: func(*apitest.Server) {}, stays: true},
		"nobody answers":     {change: (*apitest.Server).Stop, stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := apitest.New(t)
			server.Put(path, `{"metadata":{"name":"multus-shim"}}`)
			if tc.before != nil {
				tc.before(server)
			}
			n := newNode(t, "-skip-tls-verify", "-uninstall-with", "kube-system/multus-shim")
			credentials, err := kube.Load(server.Kubeconfig())
			require.NoError(t, err)
			n.env = map[string]string{
				"KUBERNETES_SERVICE_HOST": credentials.Server.Hostname(), "KUBERNETES_SERVICE_PORT": credentials.Server.Port(),
			}
			n.write("sa/token", "first-token")
			n.write("net.d/10-calico.conflist", calico)
			n.start()
			n.eventually(func() bool { return primaryOf(n) != "" })
			n.eventually(func() bool { return len(server.Requests()) > 0 })
			n.write("bin/multus", "somebody else's")
			tc.change(server)
			n.end()
			assert.Equal(t, "somebody else's", n.read("bin/multus"))
			if tc.stays {
				assert.Equal(t, []string{"multus", "multus-shim"}, n.list("bin"))
				assert.Equal(t, []string{singleName, "10-calico.conflist", "multus.d"}, n.list("net.d"))
				return
			}
			assert.Equal(t, []string{"multus"}, n.list("bin"))
			assert.Equal(t, []string{"10-calico.conflist"}, n.list("net.d"))
		})
	}
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
