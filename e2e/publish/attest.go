// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

// Media types of what refers to an image.
const (
	mediaTypeSBOM       = "application/vnd.cyclonedx+json"
	mediaTypeStatement  = "application/vnd.in-toto+json"
	predicateAnnotation = "in-toto.io/predicate-type"
)

// attest adds to every image what is inside of it and how it was made, the same bytes for
// the same image.
func (s *stage) attest(ctx context.Context) error {
	for _, img := range s.images {
		var builds []*debug.BuildInfo
		for _, p := range img.Platforms {
			programs, err := s.programs(ctx, p)
			if err != nil {
				return fmt.Errorf("image %s: %w", img.Name, err)
			}
			bom, err := encodeSBOM(img, p, programs)
			if err != nil {
				return err
			}
			if err := s.refer(ctx, p, mediaTypeSBOM, bom, nil); err != nil {
				return err
			}
			for _, program := range programs {
				builds = append(builds, program.Build)
			}
		}
		statement, err := json.Marshal(provenance(img, builds))
		if err != nil {
			return err
		}
		if err := s.refer(ctx, img.Root, mediaTypeStatement, statement, map[string]string{predicateAnnotation: predicateType}); err != nil {
			return err
		}
	}
	return nil
}

// refer adds an artifact of one blob about a subject.
func (s *stage) refer(ctx context.Context, subject ocispec.Descriptor, mediaType string, blob []byte, annotations map[string]string) error {
	layer := content.NewDescriptorFromBytes(mediaType, blob)
	// Older registries tell kinds of artifacts by the type of the configuration alone.
	config := content.NewDescriptorFromBytes(mediaType, []byte("{}"))
	for d, text := range map[*ocispec.Descriptor][]byte{&layer: blob, &config: []byte("{}")} {
		if err := s.store.Push(ctx, *d, bytes.NewReader(text)); err != nil && !errors.Is(err, errdef.ErrAlreadyExists) {
			return err
		}
	}
	// Without a time of its own the same artifact would be another one at every push.
	all := map[string]string{ocispec.AnnotationCreated: "1970-01-01T00:00:00Z"}
	for k, v := range annotations {
		all[k] = v
	}
	subject = plain(subject)
	_, err := oras.PackManifest(ctx, s.store, oras.PackManifestVersion1_1, mediaType, oras.PackManifestOptions{
		Subject: &subject, ConfigDescriptor: &config, Layers: []ocispec.Descriptor{layer}, ManifestAnnotations: all,
	})
	return err
}

// program is a Go program in an image, with what it was built from.
type program struct {
	Path  string
	Build *debug.BuildInfo
}

// programs reads the build information of every program in the image of one platform. A
// file without one cannot be vouched for and is an error.
func (s *stage) programs(ctx context.Context, platform ocispec.Descriptor) ([]program, error) {
	var manifest ocispec.Manifest
	if err := s.read(ctx, platform, &manifest); err != nil {
		return nil, err
	}
	var out []program
	for _, layer := range manifest.Layers {
		blob, err := content.FetchAll(ctx, s.store, layer)
		if err != nil {
			return nil, err
		}
		unzipped, err := gzip.NewReader(bytes.NewReader(blob))
		if err != nil {
			return nil, err
		}
		for r := tar.NewReader(unzipped); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			if h.Typeflag != tar.TypeReg {
				continue
			}
			file, err := io.ReadAll(r)
			if err != nil {
				return nil, err
			}
			info, err := buildinfo.Read(bytes.NewReader(file))
			if err != nil {
				return nil, fmt.Errorf("what /%s was built from: %w", h.Name, err)
			}
			out = append(out, program{"/" + h.Name, info})
		}
	}
	return out, nil
}
