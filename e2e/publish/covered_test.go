// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	notation "github.com/notaryproject/notation-go/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"oras.land/oras-go/v2/content"
)

// rewritten is a bundle after somebody has worked on it, who has no key of its maker's.
func rewritten(t *testing.T, bundle string, work func(*stage)) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "rewritten.tar")
	require.NoError(t, withStage(t.Context(), []string{bundle}, func(s *stage) error {
		work(s)
		return s.bundle(out, "", io.Discard)
	}))
	return out
}

// add puts a manifest, and the one blob of it, into a layout.
func (s *stage) add(t *testing.T, mediaType string, manifest any, blob []byte) {
	t.Helper()
	if blob != nil {
		require.NoError(t, s.store.Push(t.Context(), content.NewDescriptorFromBytes("text/plain", blob), bytes.NewReader(blob)))
	}
	text, err := json.Marshal(manifest)
	require.NoError(t, err)
	require.NoError(t, s.store.Push(t.Context(), content.NewDescriptorFromBytes(mediaType, text), bytes.NewReader(text)))
}

// signature is that of an image's, with its manifest.
func (s *stage) signature(t *testing.T, img staged) (m ocispec.Manifest) {
	t.Helper()
	require.NoError(t, notation.NewRepository(s.store).ListSignatures(t.Context(), img.Root, func(found []ocispec.Descriptor) error {
		require.Len(t, found, 1)
		return s.read(t.Context(), found[0], &m)
	}))
	return m
}

// advice is a kind of artifact that this program does not make.
const advice = "application/vnd.example.advice+json"

// additions are what somebody adds to a bundle who has no key of its maker's.
func additions(t *testing.T) map[string]func(*testing.T, *stage) {
	evil := []byte("evil")
	strangers, stranger := keyPair(t, x509.ExtKeyUsageCodeSigning)
	return map[string]func(*testing.T, *stage){
		"about an image": func(t *testing.T, s *stage) {
			require.NoError(t, s.refer(t.Context(), s.images[0].Root, advice, evil, nil))
		},
		"about a platform's": func(t *testing.T, s *stage) {
			require.NoError(t, s.refer(t.Context(), s.images[0].Platforms[1], advice, evil, nil))
		},
		"an SBOM": func(t *testing.T, s *stage) {
			require.NoError(t, s.refer(t.Context(), s.images[0].Root, mediaTypeSBOM, evil, nil))
		},
		"called a signature": func(t *testing.T, s *stage) {
			require.NoError(t, s.refer(t.Context(), s.images[0].Root, notation.ArtifactTypeNotation, evil, nil))
		},
		"a stranger's signing": func(t *testing.T, s *stage) {
			with, err := (&signingKey{key: strangers, certificate: stranger}).open()
			require.NoError(t, err)
			require.NoError(t, s.sign(t.Context(), with))
		},
		"about a referrer": func(t *testing.T, s *stage) {
			all, err := s.signable(t.Context(), s.images[0])
			require.NoError(t, err)
			require.Greater(t, len(all), 1)
			require.NoError(t, s.refer(t.Context(), all[1], advice, evil, nil))
		},
		"about a signature": func(t *testing.T, s *stage) {
			text, err := json.Marshal(s.signature(t, s.images[0]))
			require.NoError(t, err)
			require.NoError(t, s.refer(t.Context(), content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, text), advice, evil, nil))
		},
		"an index above": func(t *testing.T, s *stage) {
			s.add(t, ocispec.MediaTypeImageIndex, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{s.images[0].Platforms[0]}}, nil)
		},
		"a text in a signature": func(t *testing.T, s *stage) {
			m := s.signature(t, s.images[0])
			m.Annotations["advice"] = strings.Repeat("evil ", 1000)
			s.add(t, ocispec.MediaTypeImageManifest, m, nil)
		},
		"a blob of a signature": func(t *testing.T, s *stage) {
			m := s.signature(t, s.images[0])
			d := content.NewDescriptorFromBytes("text/plain", evil)
			m.Config.Digest, m.Config.Size = d.Digest, d.Size
			s.add(t, ocispec.MediaTypeImageManifest, m, evil)
		},
	}
}

// Nothing comes along with signed images that is not signed itself, wherever it hangs on.
func TestBundleThatHasMore(t *testing.T) {
	t.Parallel()
	key, certificate := keyPair(t, x509.ExtKeyUsageCodeSigning)
	bundle := filepath.Join(t.TempDir(), "bundle.tar")
	_, err := publish(t, "bundle", "-images", images(t, commit), "-o", bundle, "-key", key, "-certificate", certificate)
	require.NoError(t, err)
	for name, work := range additions(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			more := rewritten(t, bundle, func(s *stage) { work(t, s) })
			r := startRegistry(t, registry.WithReferrersSupport(true))
			_, err := publish(t, "load", "-bundle", more, "-registry", r.host+"/sriovkit", "-certificate", certificate)
			require.ErrorContains(t, err, "signature")
			require.ErrorContains(t, err, "docker.io/sriovkit/first:v1")
			require.Empty(t, r.written(), "nothing half-done")

			_, err = publish(t, "load", "-bundle", more, "-registry", r.host+"/sriovkit", "-unsigned")
			require.NoError(t, err)
			_, err = publish(t, "load", "-bundle", rewritten(t, bundle, func(*stage) {}), "-registry", startRegistry(t).host+"/sriovkit", "-certificate", certificate)
			require.NoError(t, err, "the same without")
		})
	}
}

// What refers to an image is signed, of whatever kind it is, and so can be loaded.
func TestAllThatRefersIsSigned(t *testing.T) {
	t.Parallel()
	key, certificate := keyPair(t, x509.ExtKeyUsageCodeSigning)
	bundle := filepath.Join(t.TempDir(), "bundle.tar")
	with, err := (&signingKey{key: key, certificate: certificate}).open()
	require.NoError(t, err)
	found, err := archives(images(t, commit))
	require.NoError(t, err)
	require.NoError(t, withStage(t.Context(), found, func(s *stage) error {
		require.NoError(t, s.refer(t.Context(), s.images[0].Root, advice, []byte("{}"), nil))
		require.NoError(t, s.sign(t.Context(), with))
		return s.bundle(bundle, "", io.Discard)
	}))
	r := startRegistry(t, registry.WithReferrersSupport(true))
	_, err = publish(t, "load", "-bundle", bundle, "-registry", r.host+"/sriovkit", "-certificate", certificate)
	require.NoError(t, err)
	repo := r.repository(t, "first")
	root, err := repo.Resolve(t.Context(), "v1")
	require.NoError(t, err)
	checkSigned(t, repo, referrer(t, repo, root, advice).manifest, certificate)
}
