// Package image writes container images made of static programs as OCI archives
// (https://github.com/opencontainers/image-spec/blob/main/image-layout.md, in a
// tar file), without a container daemon. containerd imports them with "ctr images
// import", skopeo and podman read them as oci-archive.
//
// The same input gives the same bytes: no times, owners or host names.
package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
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

// Parts of the documents of image-spec v1.1 that an image of one layer needs.
type (
	descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int64             `json:"size"`
		Platform    *platform         `json:"platform,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	platform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
	index struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}
	manifest struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}
	config struct {
		platform
		Config runConfig `json:"config"`
		RootFS rootFS    `json:"rootfs"`
	}
	runConfig struct {
		User       string            `json:"User,omitempty"`
		Env        []string          `json:"Env,omitempty"`
		Entrypoint []string          `json:"Entrypoint,omitempty"`
		Cmd        []string          `json:"Cmd,omitempty"`
		Labels     map[string]string `json:"Labels,omitempty"`
	}
	rootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
)

const mediaPrefix = "application/vnd.oci.image."

var linuxAMD64 = platform{Architecture: "amd64", OS: "linux"}

// WriteArchive writes an OCI archive with the given images to w.
func WriteArchive(w io.Writer, images ...Image) error {
	a := archive{tar: tar.NewWriter(w), written: map[string]bool{}}
	if err := a.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	idx := index{SchemaVersion: 2, MediaType: mediaPrefix + "index.v1+json"}
	for _, img := range images {
		d, err := a.image(img)
		if err != nil {
			return fmt.Errorf("image %s: %w", img.Name, err)
		}
		idx.Manifests = append(idx.Manifests, d)
	}
	text, err := json.Marshal(idx)
	if err != nil {
		return err
	}
	if err := a.file("index.json", text); err != nil {
		return err
	}
	return a.tar.Close()
}

type archive struct {
	tar     *tar.Writer
	written map[string]bool // digests: images may share blobs
}

func (a archive) image(img Image) (descriptor, error) {
	repository, tag, ok := strings.Cut(path.Base(img.Name), ":")
	if !ok || repository == "" || tag == "" {
		return descriptor{}, fmt.Errorf("name %q, want one with a tag, such as example.org/name:v1", img.Name)
	}
	layer, err := img.layer()
	if err != nil {
		return descriptor{}, err
	}
	layerBlob, err := a.blob("layer.v1.tar", layer)
	if err != nil {
		return descriptor{}, err
	}
	configBlob, err := a.document("config.v1+json", config{
		platform: linuxAMD64,
		Config:   runConfig{User: img.User, Env: img.Env, Entrypoint: img.Entrypoint, Cmd: img.Cmd, Labels: img.Labels},
		RootFS:   rootFS{Type: "layers", DiffIDs: []string{layerBlob.Digest}},
	})
	if err != nil {
		return descriptor{}, err
	}
	d, err := a.document("manifest.v1+json", manifest{
		SchemaVersion: 2,
		MediaType:     mediaPrefix + "manifest.v1+json",
		Config:        configBlob,
		Layers:        []descriptor{layerBlob},
	})
	d.Platform = &linuxAMD64
	d.Annotations = map[string]string{
		"io.containerd.image.name":          img.Name, // the full name, for ctr
		"org.opencontainers.image.ref.name": tag,
	}
	return d, err
}

func (a archive) document(kind string, doc any) (descriptor, error) {
	text, err := json.Marshal(doc)
	if err != nil {
		return descriptor{}, err
	}
	return a.blob(kind, text)
}

func (a archive) blob(kind string, content []byte) (descriptor, error) {
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	d := descriptor{MediaType: mediaPrefix + kind, Digest: "sha256:" + digest, Size: int64(len(content))}
	if a.written[digest] {
		return d, nil
	}
	a.written[digest] = true
	return d, a.file("blobs/sha256/"+digest, content)
}

func (a archive) file(name string, content []byte) error {
	if err := a.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := a.tar.Write(content)
	return err
}

// layer is the root file system as a tar archive, with parents before children.
func (img Image) layer() ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	headers := map[string]*tar.Header{}
	contents := map[string][]byte{}
	// /tmp is there so that programs on an empty base can make temporary files.
	headers["tmp"] = &tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}
	add := func(name string, h *tar.Header) error {
		rel := strings.TrimPrefix(path.Clean(name), "/")
		if !path.IsAbs(name) || rel == "" || headers[rel] != nil {
			return fmt.Errorf("path %q, want absolute ones, each once", name)
		}
		h.Name = rel
		headers[rel] = h
		for dir := path.Dir(rel); dir != "."; dir = path.Dir(dir) {
			if headers[dir] == nil {
				headers[dir] = &tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}
			}
		}
		return nil
	}
	for name, source := range img.Files {
		info, err := os.Stat(source)
		if err != nil {
			return nil, err
		}
		content, err := os.ReadFile(source)
		if err != nil {
			return nil, err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Mode: int64(info.Mode() & fs.ModePerm), Size: int64(len(content))}
		if err := add(name, h); err != nil {
			return nil, err
		}
		contents[h.Name] = content
	}
	for name, target := range img.Links {
		if err := add(name, &tar.Header{Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		h := headers[name]
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(contents[h.Name]); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}
