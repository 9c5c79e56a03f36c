// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// covered is an error if something would be pushed along with the images that no signature
// vouches for: a push follows references upwards from each platform's image, to whatever is
// there. Signatures, which nothing is signed above, have to be good ones, each, and no more
// than that.
func (s *stage) covered(ctx context.Context, check notation.Verifier) error {
	vouched := map[digest.Digest]bool{}
	for _, img := range s.images {
		for _, p := range img.Platforms { // the root, which is signed, lists them
			vouched[p.Digest] = true
		}
		all, err := s.signable(ctx, img)
		if err != nil {
			return err
		}
		for _, d := range all {
			vouched[d.Digest] = true
			signatures, err := s.goodSignatures(ctx, d, check)
			if err != nil {
				return fmt.Errorf("signature of %s, %s: %w", img.Name, d.Digest, err)
			}
			maps.Copy(vouched, signatures)
		}
	}
	for _, img := range s.images {
		if err := s.allVouched(ctx, img, vouched); err != nil {
			return err
		}
	}
	return nil
}

// allVouched follows references upwards as a push does.
func (s *stage) allVouched(ctx context.Context, img staged, vouched map[digest.Digest]bool) error {
	seen := map[digest.Digest]bool{}
	for next := slices.Clone(img.Platforms); len(next) > 0; next = next[1:] {
		if seen[next[0].Digest] {
			continue
		}
		seen[next[0].Digest] = true
		above, err := s.store.Predecessors(ctx, plain(next[0]))
		if err != nil {
			return err
		}
		for _, d := range above {
			if !vouched[d.Digest] {
				return fmt.Errorf("%s (%s) refers to image %s, and no signature of that certificate covers it: "+
					"the archive is not as it was signed. Nothing was pushed; take another, or load it without a check: -unsigned", d.Digest, d.MediaType, img.Name)
			}
		}
		next = append(next, above...)
	}
	return nil
}

// goodSignatures are those of a subject that hold each by itself.
func (s *stage) goodSignatures(ctx context.Context, subject ocispec.Descriptor, check notation.Verifier) (map[digest.Digest]bool, error) {
	good := map[digest.Digest]bool{}
	repo := registry.NewRepository(s.store)
	err := repo.ListSignatures(ctx, subject, func(signatures []ocispec.Descriptor) error {
		for _, d := range signatures {
			var m ocispec.Manifest
			if err := s.read(ctx, d, &m); err != nil {
				return err
			}
			_, _, err := notation.Verify(ctx, check, onlySignature{repo, plain(d)}, notation.VerifyOptions{ArtifactReference: inBundle(subject), MaxSignatureAttempts: 1})
			if err == nil && bare(d, m) {
				good[d.Digest] = true
			}
		}
		return nil
	})
	return good, err
}

// maxSignature bounds the manifest of a signature, bytes. Ours have 700.
const maxSignature = 4 << 10

// bare reports whether the manifest of a signature has no room for anything else: nothing in it
// is signed but what the signature says itself.
func bare(d ocispec.Descriptor, m ocispec.Manifest) bool {
	return d.Size <= maxSignature && m.Config.Digest == ocispec.DescriptorEmptyJSON.Digest && len(m.Layers) == 1
}

// onlySignature is a repository whose artifacts have one signature.
type onlySignature struct {
	registry.Repository
	signature ocispec.Descriptor
}

func (o onlySignature) ListSignatures(_ context.Context, _ ocispec.Descriptor, do func([]ocispec.Descriptor) error) error {
	return do([]ocispec.Descriptor{o.signature})
}

// inBundle is the name that what is in an archive is verified under.
func inBundle(d ocispec.Descriptor) string { return "bundle.local/image@" + string(d.Digest) }
