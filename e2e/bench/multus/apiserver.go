// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

const (
	namespace = "bench"
	pod       = "pod"
	uid       = "11111111-2222-3333-4444-555555555555"
)

// apiServer answers for one pod and any NAD over HTTPS, and counts.
type apiServer struct {
	http     *httptest.Server
	requests atomic.Int64
	delay    atomic.Int64 // ns, of every answer
	networks atomic.Value // annotation of the pod
	config   string       // of every NAD
}

func newAPIServer(nadConfig string) *apiServer {
	s := &apiServer{config: nadConfig}
	s.networks.Store("")
	s.http = httptest.NewUnstartedServer(s)
	s.http.EnableHTTP2 = true
	s.http.StartTLS()
	return s
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	time.Sleep(time.Duration(s.delay.Load()))
	w.Header().Set("Content-Type", "application/json")
	object := map[string]any{}
	switch {
	case strings.Contains(r.URL.Path, "/network-attachment-definitions/"):
		name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		object = map[string]any{
			"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
			"metadata": map[string]any{"namespace": namespace, "name": name}, "spec": map[string]any{"config": s.config},
		}
	case strings.Contains(r.URL.Path, "/pods/"):
		annotations := map[string]string{}
		if networks := s.networks.Load().(string); networks != "" {
			annotations["k8s.v1.cni.cncf.io/networks"] = networks
		}
		object = map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{
			"namespace": namespace, "name": pod, "uid": uid, "resourceVersion": "1", "annotations": annotations,
		}}
	case r.Method == http.MethodPost:
		object = map[string]any{"apiVersion": "v1", "kind": "Event", "metadata": map[string]any{"name": "e"}}
		w.WriteHeader(http.StatusCreated)
	}
	_ = json.NewEncoder(w).Encode(object)
}

// kubeconfig writes one for the server, or for a port that nobody listens on.
func (s *apiServer) kubeconfig(dir string, down bool) (string, error) {
	ca := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw}), 0o600); err != nil {
		return "", err
	}
	url, name := s.http.URL, "up"
	if down {
		url, name = "https://127.0.0.1:1", "down"
	}
	path := filepath.Join(dir, "kubeconfig-"+name)
	text, err := json.Marshal(map[string]any{ // JSON, as ours is installed, is YAML to all others
		"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"contexts": []any{map[string]any{"name": "c", "context": map[string]string{"cluster": "k", "user": "u"}}},
		"clusters": []any{map[string]any{"name": "k", "cluster": map[string]string{"server": url, "certificate-authority": ca}}},
		"users":    []any{map[string]any{"name": "u", "user": map[string]string{"token": "t"}}},
	})
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, text, 0o600)
}
