// SPDX-License-Identifier: Apache-2.0

// Package image writes container images made of static programs as OCI archives
// (https://github.com/opencontainers/image-spec/blob/main/image-layout.md, in a
// tar file), without a container daemon. containerd imports them with "ctr images
// import", skopeo and podman read them as oci-archive.
//
// The same input gives the same bytes: no times, owners or host names.
package image

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// NameAnnotation is where an archive's index has the full name of an image, which containerd
// gives it.
const NameAnnotation = "io.containerd.image.name"

// Image is one image with one layer.
type Image struct {
	Name       string            // with tag: example.org/sriov-cni:v1
	Platform   string            // such as linux/arm64; empty is linux/amd64
	Files      map[string]string // absolute path in the image to a file on this machine; its mode is kept
	Links      map[string]string // absolute path in the image to the target of a symbolic link
	Entrypoint []string
	Cmd        []string
	Env        []string
	User       string            // numeric "uid:gid"; empty is root
	Labels     map[string]string // of an image index they are the annotations, too
}

// WriteArchive writes an OCI archive with the given images to w. Several images of one
// name, each for another platform, become one image index.
func WriteArchive(w io.Writer, images ...Image) error {
	dir, err := os.MkdirTemp("", "sriovkit-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	byName := map[string][]Image{}
	for _, img := range images {
		byName[img.Name] = append(byName[img.Name], img)
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if err := appendTo(p, name, byName[name]); err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
	}
	return Pack(w, dir)
}

// appendTo adds an image, or an index of several, to a layout under the annotations that
// tools look for.
func appendTo(p layout.Path, full string, images []Image) error {
	tag, err := name.NewTag(full, name.WithDefaultTag(""))
	if err == nil && tag.TagStr() == "" {
		err = errors.New("it has no tag")
	}
	if err != nil {
		return fmt.Errorf("name %q, want one with a tag, such as example.org/name:v1: %w", full, err)
	}
	annotations := layout.WithAnnotations(map[string]string{
		NameAnnotation:                      full,
		"org.opencontainers.image.ref.name": tag.TagStr(),
	})
	var parts []mutate.IndexAddendum
	for _, img := range images {
		platform, err := v1.ParsePlatform(cmp.Or(img.Platform, "linux/amd64"))
		if err != nil || platform.OS == "" || platform.Architecture == "" {
			return fmt.Errorf("platform %q, want one such as linux/arm64", img.Platform)
		}
		built, err := img.build(*platform)
		if err != nil {
			return err
		}
		if len(images) == 1 {
			return p.AppendImage(built, layout.WithPlatform(*platform), annotations)
		}
		for _, p := range parts {
			if p.Platform.Equals(*platform) {
				return fmt.Errorf("platform %s: given twice", platform)
			}
		}
		parts = append(parts, mutate.IndexAddendum{Add: built, Descriptor: v1.Descriptor{Platform: platform}})
	}
	index := mutate.IndexMediaType(mutate.AppendManifests(empty.Index, parts...), types.OCIImageIndex)
	index = mutate.Annotations(index, images[0].Labels).(v1.ImageIndex)
	return p.AppendIndex(index, annotations)
}

func (img Image) build(platform v1.Platform) (v1.Image, error) {
	content, err := img.layer()
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(content, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	built, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return nil, err
	}
	config, err := built.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = platform.OS, platform.Architecture
	config.Config = v1.Config{User: img.User, Env: img.Env, Entrypoint: img.Entrypoint, Cmd: img.Cmd, Labels: img.Labels}
	return mutate.ConfigFile(built, config)
}

// Create writes a file that everybody may read. It is there whole or not at all.
func Create(path string, write func(io.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // renamed by then, unless something failed
	if err := write(file); err != nil {
		file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := os.Chmod(file.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// Pack writes the files of a directory as a tar archive that does not tell when it was made.
func Pack(w io.Writer, dir string) error {
	out := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		header := &tar.Header{Name: strings.TrimPrefix(file, dir+"/"), Mode: 0o644 | int64(info.Mode()&0o111), Size: int64(len(content))}
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		_, err = out.Write(content)
		return err
	})
	if err != nil {
		return err
	}
	return out.Close()
}
