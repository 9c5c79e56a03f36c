// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/stretchr/testify/require"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/sriovkit/sriovkit/e2e/image"
)

// pause builds a small Go program once for all tests.
var pause = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "publish-test-")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "pause")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=v1", "-o", program, "../cmd/pause")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	build.Dir = "."
	out, err := build.CombinedOutput()
	if err != nil {
		err = &exec.Error{Name: string(out), Err: err}
	}
	return program, err
})

func TestMain(m *testing.M) {
	if os.Getenv("PUBLISH_TEST_MAIN") != "" { // this program stands for publish
		main()
		return
	}
	code := m.Run()
	if program, err := pause(); err == nil {
		os.RemoveAll(filepath.Dir(program))
	}
	os.Exit(code)
}

// images writes archives as make images does: two components for two platforms each.
func images(t *testing.T, revision string) string {
	t.Helper()
	program, err := pause()
	require.NoError(t, err)
	dir := t.TempDir()
	for _, name := range []string{"first", "second"} {
		var parts []image.Image
		for _, platform := range []string{"linux/amd64", "linux/arm64"} {
			parts = append(parts, image.Image{
				Name: "docker.io/sriovkit/" + name + ":v1", Platform: platform, Files: map[string]string{"/" + name: program},
				Labels: map[string]string{
					"org.opencontainers.image.revision": revision, "org.opencontainers.image.licenses": "Apache-2.0",
					"org.opencontainers.image.source": "https://example.org/repo",
					"org.opencontainers.image.title":  name, "org.opencontainers.image.version": "v1",
				},
			})
		}
		f, err := os.Create(filepath.Join(dir, name+".tar"))
		require.NoError(t, err)
		require.NoError(t, image.WriteArchive(f, parts...))
		require.NoError(t, f.Close())
	}
	return dir
}

// fakeRegistry is a registry on loopback that can be told to fail.
type fakeRegistry struct {
	host string

	mu     sync.Mutex
	writes []string                                             // "PUT /v2/..." that were let through
	fail   func(http.ResponseWriter, *http.Request) (done bool) // answers instead
}

func startRegistry(t *testing.T, options ...registry.Option) *fakeRegistry {
	t.Helper()
	r := &fakeRegistry{}
	inner := registry.New(append(options, registry.Logger(log.New(io.Discard, "", 0)))...)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		failed := r.fail != nil && r.fail(w, q)
		if !failed && q.Method != http.MethodGet && q.Method != http.MethodHead {
			r.writes = append(r.writes, q.Method+" "+q.URL.Path)
		}
		r.mu.Unlock()
		if !failed {
			inner.ServeHTTP(w, q)
		}
	}))
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "http://")
	return r
}

func (r *fakeRegistry) set(fail func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail, r.writes = fail, nil
}

func (r *fakeRegistry) written() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.writes
}

func (r *fakeRegistry) repository(t *testing.T, name string) *remote.Repository {
	t.Helper()
	repo, err := remote.NewRepository(r.host + "/sriovkit/" + name)
	require.NoError(t, err)
	repo.PlainHTTP = true
	return repo
}

// tagged tells which of the components have their tag.
func (r *fakeRegistry) tagged(t *testing.T) []string {
	t.Helper()
	names := []string{}
	for _, name := range []string{"first", "second"} {
		if _, err := r.repository(t, name).Resolve(t.Context(), "v1"); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// keyPair writes a key and a certificate of its own for code signing, or another use.
func keyPair(t *testing.T, usage x509.ExtKeyUsage) (key, certificate string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "release", Organization: []string{"test"}, Country: []string{"XX"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, BasicConstraintsValid: true,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600))
		return path
	}
	return write("key.pem", "PRIVATE KEY", encoded), write("cert.pem", "CERTIFICATE", signed)
}

// publish runs the command and returns what it printed.
func publish(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), args, &stdout, &stderr)
	return stdout.String(), err
}
