// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/oci"

	"github.com/sriovkit/sriovkit/e2e/image"
)

// stage is an OCI image layout with the images of a release and what refers to them.
type stage struct {
	dir    string // of the layout
	store  *oci.Store
	images []staged
	// signedBy is the file of the certificate whose signatures were added; empty if none were.
	signedBy string
}

// staged is one image: what its tag means, and the images of its platforms.
type staged struct {
	Name      string // docker.io/sriovkit/operator:v1
	Root      ocispec.Descriptor
	Platforms []ocispec.Descriptor // of an image without an index, itself
	Labels    map[string]string
}

// component and tag are the parts of the name that a registry elsewhere keeps.
func (s staged) component() string { return path.Base(s.Name[:strings.LastIndex(s.Name, ":")]) }
func (s staged) tag() string       { return s.Name[strings.LastIndex(s.Name, ":")+1:] }

// archives are those that "make images" wrote to a directory.
func archives(images string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(images, "*.tar"))
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no images in %s: run make images", images)
	}
	return found, err
}

// withStage unpacks archives into one layout, which lives as long as do.
func withStage(ctx context.Context, archives []string, do func(*stage) error) error {
	dir, err := os.MkdirTemp("", "sriovkit-publish-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var named []ocispec.Descriptor
	for _, archive := range archives {
		index, err := unpack(archive, dir)
		if errors.As(err, new(*fs.PathError)) {
			return err // it, or where it is unpacked, cannot be used
		}
		if err != nil {
			return fmt.Errorf("image archive %s: %w; it is damaged or not of images", archive, err)
		}
		named = append(named, index.Manifests...)
	}
	if err := writeIndex(dir, named); err != nil {
		return err
	}
	store, err := oci.NewWithContext(ctx, dir)
	if err != nil {
		return err
	}
	s := &stage{dir: dir, store: store}
	if err := s.load(ctx, named); err != nil {
		return err
	}
	if len(s.images) == 0 {
		return fmt.Errorf("no image has a name in %s", strings.Join(archives, ", "))
	}
	return do(s)
}

// unpack adds the blobs of an archive to a layout and returns what the archive lists.
func unpack(archive, dir string) (ocispec.Index, error) {
	var index ocispec.Index
	f, err := os.Open(archive)
	if err != nil {
		return index, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return index, err
	}
	left := info.Size()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == nil {
			left -= h.Size
		}
		switch {
		case errors.Is(err, io.EOF) && len(index.Manifests) == 0:
			return index, errors.New("no image is listed in it")
		case errors.Is(err, io.EOF):
			return index, nil
		case err != nil:
			return index, err
		case left < 0: // sparse files are a few bytes there and fill a disk here
			return index, fmt.Errorf("file %q is larger than the archive", h.Name)
		case h.Name == ocispec.ImageIndexFile:
			if err := json.NewDecoder(r).Decode(&index); err != nil {
				return index, err
			}
		case !filepath.IsLocal(h.Name):
			return index, fmt.Errorf("path %q leads out of it", h.Name)
		case h.Typeflag != tar.TypeReg:
		case h.Name == ocispec.ImageLayoutFile:
			if err := writeFile(filepath.Join(dir, h.Name), r); err != nil {
				return index, err
			}
		case strings.HasPrefix(h.Name, ocispec.ImageBlobsDir+"/"):
			if err := writeBlob(dir, h.Name, r); err != nil {
				return index, err
			}
		}
	}
}

// writeBlob writes a blob, whose name is the digest of its content: damage is found before
// any of it is sent.
func writeBlob(dir, name string, from io.Reader) error {
	want := digest.NewDigestFromEncoded(digest.Algorithm(path.Base(path.Dir(name))), path.Base(name))
	if err := want.Validate(); err != nil {
		return fmt.Errorf("blob %s: %w", name, err)
	}
	check := want.Verifier()
	if err := writeFile(filepath.Join(dir, name), io.TeeReader(from, check)); err != nil {
		return err
	}
	if !check.Verified() {
		return fmt.Errorf("content of blob %s is not what its name says", want)
	}
	return nil
}

func writeFile(name string, from io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, from); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// writeIndex lists manifests in a layout, each image under its full name, since all have
// the same tag.
func writeIndex(dir string, manifests []ocispec.Descriptor) error {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	for _, m := range manifests {
		if name := m.Annotations[image.NameAnnotation]; name != "" {
			m.Annotations = map[string]string{image.NameAnnotation: name, ocispec.AnnotationRefName: name}
		}
		index.Manifests = append(index.Manifests, m)
	}
	slices.SortStableFunc(index.Manifests, func(a, b ocispec.Descriptor) int {
		return strings.Compare(string(a.Digest), string(b.Digest))
	})
	text, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, ocispec.ImageIndexFile), text, 0o644)
}

// load reads the named images among manifests.
func (s *stage) load(ctx context.Context, manifests []ocispec.Descriptor) error {
	for _, m := range manifests {
		name := m.Annotations[image.NameAnnotation]
		if name == "" {
			continue // a referrer
		}
		img := staged{Name: name, Root: plain(m)}
		if !strings.Contains(path.Base(name), ":") {
			return fmt.Errorf("image name %q: want one with a tag", name)
		}
		if m.MediaType != ocispec.MediaTypeImageIndex {
			img.Platforms = []ocispec.Descriptor{img.Root}
		} else {
			var index ocispec.Index
			if err := s.read(ctx, m, &index); err != nil {
				return fmt.Errorf("image %s: %w", name, err)
			}
			img.Platforms = index.Manifests
		}
		var config ocispec.Image
		for _, p := range img.Platforms {
			var manifest ocispec.Manifest
			if err := s.read(ctx, p, &manifest); err != nil {
				return fmt.Errorf("image %s: %w", name, err)
			}
			if err := s.read(ctx, manifest.Config, &config); err != nil {
				return fmt.Errorf("image %s: %w", name, err)
			}
			for _, layer := range manifest.Layers {
				if there, err := s.store.Exists(ctx, layer); err != nil || !there {
					return fmt.Errorf("image %s: layer %s is not in the archive", name, layer.Digest)
				}
			}
		}
		img.Labels = config.Config.Labels
		s.images = append(s.images, img)
	}
	slices.SortFunc(s.images, func(a, b staged) int { return strings.Compare(a.Name, b.Name) })
	return s.oneEach()
}

// oneEach keeps one of what is listed twice. Two images that would go under one tag are an
// error: the last would win.
func (s *stage) oneEach() error {
	first := map[string]staged{}
	for _, img := range s.images {
		to := img.component() + ":" + img.tag()
		if other, there := first[to]; there && other.Root.Digest != img.Root.Digest {
			return fmt.Errorf("two images are called %s: %s of %s and %s of %s; remove the one that is old", to, other.Root.Digest, other.Name, img.Root.Digest, img.Name)
		}
		first[to] = img
	}
	s.images = slices.CompactFunc(s.images, func(a, b staged) bool { return a.Name == b.Name })
	return nil
}

// read decodes a JSON blob; content that is not what its digest says is an error.
func (s *stage) read(ctx context.Context, d ocispec.Descriptor, into any) error {
	text, err := content.FetchAll(ctx, s.store, d)
	if err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	return json.Unmarshal(text, into)
}

func plain(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}
