// SPDX-License-Identifier: Apache-2.0

// Package apitest is an API server for tests: pods, NADs, events and the
// annotation patch over real HTTPS and HTTP/2, with faults on request.
package apitest

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/netutil"
)

// Request is what the server saw.
type Request struct {
	Method, Path, Body, Token, Remote string
}

func (r Request) String() string { return r.Method + " " + r.Path }

// Server holds objects by their request path.
type Server struct {
	t         testing.TB
	http      *httptest.Server
	tokenFile string

	connections atomic.Int64

	mu       sync.Mutex
	objects  map[string]map[string]any
	requests []Request
	token    string
	watches  map[string][]chan string // by path of the object: types of events
	// fault answers a request itself when it returns true.
	fault func(w http.ResponseWriter, r *http.Request) bool
}

// maxConnections is how many the server accepts at a time; more have to wait.
const maxConnections = 50

// New starts a server that accepts one bearer token.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, objects: map[string]map[string]any{}, tokenFile: filepath.Join(t.TempDir(), "token")}
	s.Rotate("first-token")
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.EnableHTTP2 = true
	s.http.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	s.http.Listener = netutil.LimitListener(s.http.Listener, maxConnections)
	s.http.StartTLS()
	t.Cleanup(s.http.Close)
	return s
}

// Rotate changes the token that is accepted and writes it where clients look.
func (s *Server) Rotate(token string) {
	s.RotateServer(token)
	require.NoError(s.t, os.WriteFile(s.tokenFile, []byte(token+"\n"), 0o600))
}

// RotateServer changes the token behind the clients' back.
func (s *Server) RotateServer(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

// WriteToken writes a token where clients look.
func (s *Server) WriteToken(token string) error {
	return os.WriteFile(s.tokenFile, []byte(token), 0o600)
}

// Fault installs a handler that may answer instead of the server.
func (s *Server) Fault(fault func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Stop refuses connections from now on.
func (s *Server) Stop() { s.http.CloseClientConnections(); s.http.Listener.Close() }

// Kubeconfig writes a kubeconfig for the server.
func (s *Server) Kubeconfig() string {
	return s.KubeconfigWith(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw}))
}

// KubeconfigWith writes one that trusts the given CA, in PEM.
func (s *Server) KubeconfigWith(ca []byte) string {
	s.t.Helper()
	dir := s.t.TempDir()
	require.NoError(s.t, os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o600))
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: %q, certificate-authority: ca.crt}}]
users: [{name: u, user: {tokenFile: %q}}]
`, s.http.URL, s.tokenFile)
	path := filepath.Join(dir, "kubeconfig")
	require.NoError(s.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// PutPod adds a pod.
func (s *Server) PutPod(namespace, name, uid string, annotations map[string]string) {
	s.put(podPath(namespace, name), object("v1", "Pod", namespace, name, uid, annotations))
}

// PutNAD adds a NetworkAttachmentDefinition.
func (s *Server) PutNAD(namespace, name, config string, annotations map[string]string) {
	nad := object("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", namespace, name, "", annotations)
	if config != "" {
		nad["spec"] = map[string]any{"config": config}
	}
	s.put(nadPath(namespace, name), nad)
}

// DeleteNAD removes a NetworkAttachmentDefinition.
func (s *Server) DeleteNAD(namespace, name string) { s.put(nadPath(namespace, name), nil) }

// Delete removes any object, by its path.
func (s *Server) Delete(path string) { s.put(path, nil) }

// Put adds any object, given as JSON, at a path.
func (s *Server) Put(path, object string) {
	var o map[string]any
	require.NoError(s.t, json.Unmarshal([]byte(object), &o))
	s.put(path, o)
}

func (s *Server) put(path string, o map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	event := "MODIFIED"
	if s.objects[path] == nil {
		event = "ADDED"
	}
	s.objects[path] = o
	if o == nil {
		event = "DELETED"
		delete(s.objects, path)
	}
	for _, watch := range s.watches[path] {
		watch <- event
	}
}

// Annotation returns an annotation of a pod.
func (s *Server) Annotation(namespace, name, key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	annotations, _ := metadata(s.objects[podPath(namespace, name)])["annotations"].(map[string]any)
	value, _ := annotations[key].(string)
	return value
}

// Requests returns what was asked so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Connections counts those that were accepted, whatever became of them.
func (s *Server) Connections() int64 { return s.connections.Load() }

// Forget empties the list of requests.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	body, _ := io.ReadAll(r.Body)
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	s.requests = append(s.requests, Request{r.Method, r.URL.Path, string(body), token, r.RemoteAddr})
	want, fault := s.token, s.fault
	s.mu.Unlock()
	switch {
	case fault != nil && fault(w, r):
	case token != want:
		Fail(w, http.StatusUnauthorized, "Unauthorized")
	case r.Method == http.MethodGet && r.URL.Query().Get("watch") == "true":
		s.watch(w, r)
	case r.Method == http.MethodGet:
		s.get(w, r)
	case r.Method == http.MethodPost:
		s.create(w, r.URL.Path, body)
	case r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/events/"):
		s.patch(w, r.URL.Path, body)
	case r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/status"):
		s.patch(w, strings.TrimSuffix(r.URL.Path, "/status"), body)
	default:
		Fail(w, http.StatusMethodNotAllowed, "not a method of this server")
	}
}

func (s *Server) create(w http.ResponseWriter, path string, body []byte) {
	var o map[string]any
	if err := json.Unmarshal(body, &o); err != nil {
		Fail(w, http.StatusBadRequest, err.Error())
		return
	}
	name, _ := metadata(o)["name"].(string)
	path += "/" + name
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects[path] != nil {
		Fail(w, http.StatusConflict, path+" already exists")
		return
	}
	s.objects[path] = o
	w.WriteHeader(http.StatusCreated)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	o, ok := s.objects[r.URL.Path]
	text, err := json.Marshal(o)
	s.mu.Unlock()
	if !ok || err != nil {
		Fail(w, http.StatusNotFound, r.URL.Path+" not found")
		return
	}
	_, _ = w.Write(text)
}

// watch tells of one object, chosen by field selector, until the client leaves.
// As with the real server, credentials do not matter once it has begun.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path + "/" + strings.TrimPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	const backlog = 16 // more than any test changes
	events := make(chan string, backlog)
	s.mu.Lock()
	if s.watches == nil {
		s.watches = map[string][]chan string{}
	}
	s.watches[path] = append(s.watches[path], events)
	if s.objects[path] != nil {
		events <- "ADDED"
	}
	s.mu.Unlock()
	for flush := http.NewResponseController(w).Flush; flush() == nil; {
		select {
		case <-r.Context().Done():
			return
		case event := <-events:
			s.mu.Lock()
			_ = json.NewEncoder(w).Encode(map[string]any{"type": event, "object": s.objects[path]})
			s.mu.Unlock()
		}
	}
}

// patch is a merge patch of annotations with the precondition on the UID.
func (s *Server) patch(w http.ResponseWriter, path string, body []byte) {
	var p struct {
		Metadata struct {
			UID         string
			Annotations map[string]any
		}
	}
	if err := json.Unmarshal(body, &p); err != nil {
		Fail(w, http.StatusBadRequest, err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[path]
	if !ok {
		Fail(w, http.StatusNotFound, path+" not found")
		return
	}
	meta := metadata(o)
	if p.Metadata.UID != "" && p.Metadata.UID != meta["uid"] {
		Fail(w, http.StatusConflict, "Precondition failed: UID in precondition")
		return
	}
	annotations, _ := meta["annotations"].(map[string]any)
	if annotations == nil {
		annotations = map[string]any{}
	}
	maps.Copy(annotations, p.Metadata.Annotations)
	meta["annotations"] = annotations
	_, _ = w.Write([]byte(`{}`))
}

// Fail answers with a Status object.
func Fail(w http.ResponseWriter, code int, message string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "code": code, "message": message})
}

func object(apiVersion, kind, namespace, name, uid string, annotations map[string]string) map[string]any {
	converted := map[string]any{}
	for k, v := range annotations {
		converted[k] = v
	}
	return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{
		"namespace": namespace, "name": name, "uid": uid, "annotations": converted,
	}}
}

func metadata(o map[string]any) map[string]any {
	m, _ := o["metadata"].(map[string]any)
	return m
}

func podPath(namespace, name string) string {
	return "/api/v1/namespaces/" + namespace + "/pods/" + name
}

func nadPath(namespace, name string) string {
	return "/apis/k8s.cni.cncf.io/v1/namespaces/" + namespace + "/network-attachment-definitions/" + name
}
