// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// api is what multus-shim needs of an API server: the installer's DaemonSet, one NAD,
// and pods that take a patch.
type api struct {
	http *httptest.Server
	nad  string // configuration
	id   string // of the installer's container

	deleted chan struct{} // closed with the DaemonSet
	once    sync.Once
	watched chan struct{} // closed once the installer was told that its DaemonSet is there
	told    sync.Once
}

func newAPI(t *testing.T, nad, id string) *api {
	t.Helper()
	a := &api{nad: nad, id: id, deleted: make(chan struct{}), watched: make(chan struct{})}
	a.http = httptest.NewTLSServer(a)
	t.Cleanup(func() { a.http.CloseClientConnections(); a.http.Close() })
	return a
}

// serviceAccount writes what a pod finds in its service account's directory.
func (a *api) serviceAccount(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.http.Certificate().Raw})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte("token"), 0o600))
}

func (a *api) environ() []string {
	server, err := url.Parse(a.http.URL)
	if err != nil {
		panic(err) // httptest's own
	}
	return []string{"KUBERNETES_SERVICE_HOST=" + server.Hostname(), "KUBERNETES_SERVICE_PORT=" + server.Port()}
}

func (a *api) deleteDaemonSet() { a.once.Do(func() { close(a.deleted) }) }

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // a test reads what plugins were called with instead
	w.Header().Set("Content-Type", "application/json")
	answer := json.NewEncoder(w)
	switch {
	case strings.Contains(r.URL.Path, "/daemonsets"):
		a.daemonSet(w, r)
	case strings.Contains(r.URL.Path, "/network-attachment-definitions/"):
		_ = answer.Encode(map[string]any{"metadata": metadata(r), "spec": map[string]any{"config": a.nad}})
	case r.Method == http.MethodGet: // the installer's pod
		_ = answer.Encode(map[string]any{
			"metadata": metadata(r), "status": map[string]any{"containerStatuses": []any{map[string]any{"containerID": a.id}}},
		})
	default: // a pod's status, or an event
		_ = answer.Encode(map[string]any{"metadata": map[string]any{}})
	}
}

// metadata is that of the object that a path names: .../namespaces/NAMESPACE/KIND/NAME.
func metadata(r *http.Request) map[string]any {
	parts := strings.Split(r.URL.Path, "/")
	return map[string]any{"namespace": parts[len(parts)-3], "name": parts[len(parts)-1]}
}

// daemonSet answers a watch until the DaemonSet is deleted, and a question at once.
func (a *api) daemonSet(w http.ResponseWriter, r *http.Request) {
	event := func(kind string) {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": kind, "object": map[string]any{"metadata": map[string]any{}}})
		_ = http.NewResponseController(w).Flush()
	}
	select {
	case <-a.deleted:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"kind":"Status","code":404,"message":"not found"}`)
		return
	default:
	}
	if r.URL.Query().Get("watch") == "" {
		_, _ = io.WriteString(w, `{"metadata":{}}`)
		return
	}
	event("ADDED")
	a.told.Do(func() { close(a.watched) })
	select {
	case <-a.deleted:
		event("DELETED")
	case <-r.Context().Done():
	}
}
