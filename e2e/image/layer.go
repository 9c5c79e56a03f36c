// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// layer is the root file system as a tar archive, with parents before children.
func (img Image) layer() (tarball.Opener, error) {
	files := rootFS{"tmp": {header: tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}}} // programs on an empty base make temporary files, too
	for to, from := range img.Files {
		info, err := os.Stat(from)
		if err != nil {
			return nil, err
		}
		content, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		h := tar.Header{Typeflag: tar.TypeReg, Mode: int64(info.Mode() & fs.ModePerm), Size: int64(len(content))}
		if err := files.add(to, h, content); err != nil {
			return nil, err
		}
	}
	for to, target := range img.Links {
		if err := files.add(to, tar.Header{Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, nil); err != nil {
			return nil, err
		}
	}
	packed, err := files.pack()
	if err != nil {
		return nil, err
	}
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed)), nil }, nil
}

// rootFS is what a layer holds, by path without the leading slash.
type rootFS map[string]rootFile

type rootFile struct {
	header  tar.Header
	content []byte
}

func (r rootFS) add(file string, h tar.Header, content []byte) error {
	rel := strings.TrimPrefix(path.Clean(file), "/")
	if _, taken := r[rel]; taken || !path.IsAbs(file) || rel == "" {
		return fmt.Errorf("path %q, want absolute ones, each once", file)
	}
	h.Name = rel
	r[rel] = rootFile{h, content}
	for _, dir := range parents(rel) {
		if _, there := r[dir]; !there {
			r[dir] = rootFile{header: tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}}
		}
	}
	return nil
}

func (r rootFS) pack() ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, file := range slices.Sorted(maps.Keys(r)) {
		f := r[file]
		if err := w.WriteHeader(&f.header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

// parents are the directories above a path.
func parents(file string) []string {
	var dirs []string
	for dir := path.Dir(file); dir != "."; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
	}
	return dirs
}
