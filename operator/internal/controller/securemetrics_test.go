// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// With the component secure-metrics, the rights of which the operator needs, metrics are for
// those who are bound to its reader.
func TestMetricsAreForReaders(t *testing.T) {
	c := newCluster(t)
	said, err := c.plane.Kubectl(t.Context(), nil, "apply", "-f", "../../config/components/secure-metrics/rights.yaml")
	require.NoError(t, err, said)
	scraper := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "scraper"}}
	c.create(t, scraper)
	var token authenticationv1.TokenRequest
	require.NoError(t, c.SubResource("token").Create(ctx, scraper, &token))

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	cmd := exec.CommandContext(t.Context(), buildOperator(t), arguments(c.kubeconfig(t), "-metrics-bind-address", address, "-metrics-secure")...)
	cmd.Env = []string{"NAMESPACE=" + ns, "RESOURCE_PREFIX=" + prefix}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true} // its own certificate
	get := func(t require.TestingT, token string) (int, string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/metrics", nil)
		require.NoError(t, err)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	c.eventually(t, func(t *assert.CollectT) {
		status, _ := get(t, "")
		require.Equal(t, http.StatusUnauthorized, status)
	})
	status, body := get(t, "e30.e30.e30")
	require.Equal(t, http.StatusUnauthorized, status, body)
	status, body = get(t, token.Status.Token)
	require.Equal(t, http.StatusForbidden, status, body)
	require.Contains(t, body, "system:serviceaccount:default:scraper may not get /metrics")

	bound := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "scraper"}}
	bound.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "sriov-network-operator-metrics-reader"}
	bound.Subjects = []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: "scraper"}}
	require.NoError(t, c.Create(ctx, bound))
	t.Cleanup(func() { require.NoError(t, client.IgnoreNotFound(c.Delete(ctx, bound))) })
	c.eventually(t, func(t *assert.CollectT) {
		status, body := get(t, token.Status.Token)
		require.Equal(t, http.StatusOK, status, body)
		require.Contains(t, body, "controller_runtime_")
	})
}
