// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Digest is what one platform's image of an archive is, or the index over all of them.
type Digest struct {
	Name     string // of the image, with tag
	Platform string // such as linux/arm64; empty is the index
	Digest   string // sha256:...
}

// CheckArchive is an error if a file does not begin as an archive of images does: as a tar
// file, compressed or not.
func CheckArchive(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var head [262]byte
	n, err := io.ReadFull(f, head[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	for _, magic := range []string{"\x1f\x8b", "\x28\xb5\x2f\xfd"} { // gzip, zstd
		if strings.HasPrefix(string(head[:n]), magic) {
			return nil
		}
	}
	if n < len(head) || string(head[257:]) != "ustar" {
		return fmt.Errorf("%s is no archive of images: not a tar file", path)
	}
	return nil
}

// Digests lists what is in an archive that WriteArchive wrote: each image by its platforms,
// after the index over them, in the archive's order.
func Digests(archive string) ([]Digest, error) {
	blobs, err := descriptions(archive)
	if err != nil {
		return nil, fmt.Errorf("image archive %s: %w", archive, err)
	}
	var top v1.IndexManifest
	if err := json.Unmarshal(blobs["index.json"], &top); err != nil {
		return nil, fmt.Errorf("image archive %s: index.json: %w", archive, err)
	}
	var out []Digest
	for _, m := range top.Manifests {
		name := m.Annotations[NameAnnotation]
		if !m.MediaType.IsIndex() {
			out = append(out, Digest{name, m.Platform.String(), m.Digest.String()})
			continue
		}
		out = append(out, Digest{name, "", m.Digest.String()})
		var index v1.IndexManifest
		if err := json.Unmarshal(blobs[path.Join("blobs", m.Digest.Algorithm, m.Digest.Hex)], &index); err != nil {
			return nil, fmt.Errorf("image archive %s: index %s: %w", archive, m.Digest, err)
		}
		for _, p := range index.Manifests {
			out = append(out, Digest{name, p.Platform.String(), p.Digest.String()})
		}
	}
	return out, nil
}

// descriptions are the JSON files of an archive, by path; layers are left out.
func descriptions(archive string) (map[string][]byte, error) {
	const limit = 1 << 20 // of an index or a manifest
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Size > limit || h.Name != "index.json" && !strings.HasPrefix(h.Name, "blobs/") {
			continue
		}
		if out[h.Name], err = io.ReadAll(r); err != nil {
			return nil, err
		}
	}
}
