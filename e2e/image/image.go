// Package image writes container images made of static programs as OCI archives
// (https://github.com/opencontainers/image-spec/blob/main/image-layout.md, in a
// tar file), without a container daemon. containerd imports them with "ctr images
// import", skopeo and podman read them as oci-archive.
//
// The same input gives the same bytes: no times, owners or host names.
package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is one image with one layer.
type Image struct {
	Name       string            // with tag: example.org/sriov-cni:v1
	Files      map[string]string // absolute path in the image to a file on this machine; its mode is kept
	Links      map[string]string // absolute path in the image to the target of a symbolic link
	Entrypoint []string
	Cmd        []string
	Env        []string
	User       string // numeric "uid:gid"; empty is root
	Labels     map[string]string
}

var linuxAMD64 = v1.Platform{Architecture: "amd64", OS: "linux"}

// WriteArchive writes an OCI archive with the given images to w.
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
	for _, img := range images {
		if err := img.appendTo(p); err != nil {
			return fmt.Errorf("image %s: %w", img.Name, err)
		}
	}
	return pack(w, dir)
}

// appendTo adds the image to a layout under the annotations that tools look for.
func (img Image) appendTo(p layout.Path) error {
	tag, err := name.NewTag(img.Name, name.WithDefaultTag(""))
	if err == nil && tag.TagStr() == "" {
		err = errors.New("it has no tag")
	}
	if err != nil {
		return fmt.Errorf("name %q, want one with a tag, such as example.org/name:v1: %w", img.Name, err)
	}
	built, err := img.build()
	if err != nil {
		return err
	}
	return p.AppendImage(built, layout.WithPlatform(linuxAMD64), layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          img.Name, // the full name, for ctr
		"org.opencontainers.image.ref.name": tag.TagStr(),
	}))
}

func (img Image) build() (v1.Image, error) {
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
	config.OS, config.Architecture = linuxAMD64.OS, linuxAMD64.Architecture
	config.Config = v1.Config{User: img.User, Env: img.Env, Entrypoint: img.Entrypoint, Cmd: img.Cmd, Labels: img.Labels}
	return mutate.ConfigFile(built, config)
}

// pack writes a directory as a tar archive that does not tell when it was made.
func pack(w io.Writer, dir string) error {
	out := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		header := &tar.Header{Name: strings.TrimPrefix(file, dir+"/"), Mode: 0o644, Size: int64(len(content))}
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
