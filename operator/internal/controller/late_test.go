// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controlplane"
	"github.com/sriovkit/sriovkit/operator/internal/soak"
)

// lateBy is how late watch events arrive behind the proxy of these tests.
const lateBy = time.Second

// late is a proxy in front of an API server that holds back what watches bring. Everything
// else passes at once: so a cache shows the state of a second ago.
func (c *cluster) late(t *testing.T) (kubeconfig string) {
	t.Helper()
	transport, err := rest.TransportFor(c.config)
	require.NoError(t, err)
	server, err := url.Parse(c.config.Host)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(server) },
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Query().Get("watch") != "" {
				r.Body = hold(r.Body)
			}
			return nil
		},
	}
	front := httptest.NewServer(proxy)
	t.Cleanup(front.CloseClientConnections) // watches do not end by themselves
	cfg, err := clientcmd.LoadFromFile(c.kubeconfig(t))
	require.NoError(t, err)
	for _, cluster := range cfg.Clusters {
		cluster.Server, cluster.CertificateAuthorityData = front.URL, nil
	}
	path := filepath.Join(t.TempDir(), "late")
	require.NoError(t, clientcmd.WriteToFile(*cfg, path))
	return path
}

// hold passes on what body brings, each piece lateBy after it came.
func hold(body io.ReadCloser) io.ReadCloser {
	type piece struct {
		data []byte
		due  time.Time
	}
	pieces := make(chan piece, 1<<16)
	r, w := io.Pipe()
	go func() {
		defer close(pieces)
		buffer := make([]byte, 64<<10)
		for {
			n, err := body.Read(buffer)
			if n > 0 {
				pieces <- piece{append([]byte(nil), buffer[:n]...), time.Now().Add(lateBy)}
			}
			if err != nil {
				return
			}
		}
	}()
	go func() {
		for p := range pieces {
			time.Sleep(time.Until(p.due))
			if _, err := w.Write(p.data); err != nil {
				break
			}
		}
		_ = w.Close()
		_ = body.Close()
	}()
	return r
}

// A policy is changed and changed back at once, again and again, while the operator sees
// everything a second late. In the end every node state and every label is what the policy
// says, and stays so.
func TestChangedAndChangedBackBehindALateWatch(t *testing.T) {
	controlplane.Need(t)
	t.Parallel() // a control plane of its own, and long waits for it
	rounds, nodes := soak.Times(2), 30
	program := buildOperator(t)
	c, err := startPlane(t.Context(), controlplane.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.plane.Close()) })
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, arguments(c.late(t))...)
	cmd.Env = []string{"NAMESPACE=" + ns, "RESOURCE_PREFIX=" + prefix, "SRIOV_NETWORK_CONFIG_DAEMON_IMAGE=operator:test", "CREATE_DEFAULT_CONFIG=true"}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	name := func(i int) string { return fmt.Sprintf("late-%d", i) }
	for i := range nodes {
		labels := map[string]string{"kubernetes.io/os": "linux", "late": "yes"}
		require.NoError(t, c.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name(i), Labels: labels}}))
	}
	for i := range nodes {
		c.report(t, name(i), v1.SyncSucceeded, igb("ens1", "0000:01:00.0"))
	}
	p := policy("late", "", func(s *v1.SriovNetworkNodePolicySpec) { s.NodeSelector = map[string]string{"late": "yes"} })
	require.NoError(t, c.Create(ctx, p))
	stale := func(t require.TestingT, want int) (stale []string) {
		var states v1.SriovNetworkNodeStateList
		require.NoError(t, c.List(ctx, &states, client.InNamespace(ns)))
		var list corev1.NodeList
		require.NoError(t, c.List(ctx, &list))
		for _, n := range list.Items {
			if (n.Labels[v1.LabelDevicePlugin] == v1.DevicePluginEnabled) != (want > 0) {
				stale = append(stale, "label of "+n.Name)
			}
		}
		for _, s := range states.Items {
			vfs := 0
			for _, i := range s.Spec.Interfaces {
				vfs += i.NumVfs
			}
			if vfs != want {
				stale = append(stale, fmt.Sprintf("%s: %d", s.Name, vfs))
			}
		}
		return stale
	}
	settled := func(want int) {
		t.Helper()
		c.eventually(t, func(t *assert.CollectT) { require.Empty(t, stale(t, want), "want %d", want) })
	}
	settled(4)
	for range rounds {
		for _, n := range []int{2, 4} {
			c.edit(t, p, func() { p.Spec.NumVfs = n })
			time.Sleep(lateBy * 11 / 10) // the operator has seen the policy, and not what it wrote
		}
		settled(4)
		require.NoError(t, c.Delete(ctx, p))
		time.Sleep(lateBy * 11 / 10)
		p.ResourceVersion, p.UID = "", ""
		require.NoError(t, c.Create(ctx, p))
		settled(4)
	}
	for end := time.Now().Add(3 * lateBy); time.Now().Before(end); time.Sleep(lateBy / 5) {
		require.Empty(t, stale(t, 4), "and it stays so")
	}
}
