// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"oras.land/oras-go/v2/content"
)

// large is more than what a system keeps for a peer that does not read.
var large = bytes.Repeat([]byte("0123456789abcdef"), 2<<20)

// quiet is a registry on loopback, as pushes and pulls see it, that answers what it is told to.
func quiet(t *testing.T, patience time.Duration, answer func(w http.ResponseWriter, q *http.Request, never <-chan struct{})) (target, string) {
	t.Helper()
	never := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { answer(w, q, never) }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(never) })
	host := strings.TrimPrefix(server.URL, "http://")
	d := destination{registry: host + "/a", patience: patience}
	repo, err := d.repository(staged{Name: "docker.io/a/first:v1"})
	require.NoError(t, err)
	return target{repo: repo}, host
}

// A registry that falls silent in the middle of something is not waited for for ever, whichever
// way the bytes go. What ends names the registry, the blob and what to do.
func TestRegistryThatFallsSilent(t *testing.T) {
	t.Parallel()
	blob := content.NewDescriptorFromBytes("application/octet-stream", large)
	remedy := ", or let it take longer: -patience 1s"
	t.Run("while it is sent to", func(t *testing.T) {
		t.Parallel()
		to, host := quiet(t, 200*time.Millisecond, func(w http.ResponseWriter, q *http.Request, never <-chan struct{}) {
			switch q.Method {
			case http.MethodPost:
				w.Header().Set("Location", q.URL.Path+"1")
				w.WriteHeader(http.StatusAccepted)
			case http.MethodPut:
				_, _ = io.CopyN(io.Discard, q.Body, 1<<20)
				<-never
			}
		})
		err := to.repo.Push(t.Context(), blob, bytes.NewReader(large))
		require.ErrorContains(t, err, "registry "+host+" has taken nothing more of blob "+string(blob.Digest)+" for 200ms")
		require.ErrorContains(t, err, remedy)
	})
	for what, fetch := range map[string]func(target) error{
		"blob": func(from target) error {
			body, err := from.repo.Blobs().Fetch(t.Context(), blob)
			if err == nil {
				_, err = io.Copy(io.Discard, body)
				body.Close()
			}
			return err
		},
		"manifest": func(from target) error {
			_, err := content.FetchAll(t.Context(), from.repo, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: blob.Digest, Size: blob.Size})
			return err
		},
	} {
		t.Run("while it sends a "+what, func(t *testing.T) {
			t.Parallel()
			from, host := quiet(t, 200*time.Millisecond, func(w http.ResponseWriter, _ *http.Request, never <-chan struct{}) {
				w.Header().Set("Content-Length", fmt.Sprint(blob.Size))
				w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
				_, _ = w.Write(large[:1000])
				w.(http.Flusher).Flush()
				<-never
			})
			err := fetch(from)
			require.ErrorContains(t, err, "registry "+host+" has sent nothing more of "+what+" "+string(blob.Digest)+" for 200ms")
			require.ErrorContains(t, err, remedy)
		})
	}
}

// One that is slow, and never silent for long, may take all the time that it wants to; so may
// whoever reads what it sends.
func TestSlowRegistry(t *testing.T) {
	t.Parallel()
	const patience = 500 * time.Millisecond
	r := startRegistry(t, registry.WithReferrersSupport(true))
	text := []byte(strings.Repeat("0123456789", 20))
	d := content.NewDescriptorFromBytes("application/octet-stream", text)
	to := destination{registry: r.host + "/sriovkit", patience: patience}
	repo, err := to.repository(staged{Name: "docker.io/a/first:v1"})
	require.NoError(t, err)
	begun := time.Now()
	require.NoError(t, repo.Push(t.Context(), d, io.NopCloser(&slow{text: text, pause: patience / 10})))
	require.Greater(t, time.Since(begun), patience)

	body, err := repo.Blobs().Fetch(t.Context(), d)
	require.NoError(t, err)
	defer body.Close()
	one := make([]byte, 1)
	_, err = io.ReadFull(body, one)
	require.NoError(t, err)
	time.Sleep(patience * 3 / 2)
	rest, err := io.ReadAll(body)
	require.NoError(t, err)
	require.Equal(t, text, append(one, rest...))
}

// slow gives ten bytes at a time.
type slow struct {
	text  []byte
	pause time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.text) == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.pause)
	n := copy(p[:min(10, len(p))], s.text)
	s.text = s.text[n:]
	return n, nil
}
