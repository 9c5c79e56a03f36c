// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sriovkit/sriovkit/e2e/image"
)

// loader is the name of this program inside of a bundle.
const loader = "publish"

// bundle writes one archive with all images, what refers to them, the files of a directory
// and this program, which loads it. It is an OCI image layout: containerd imports it as it is.
func (s *stage) bundle(to, extra string, stdout io.Writer) error {
	text, err := os.ReadFile(filepath.Join(s.dir, ocispec.ImageIndexFile))
	if err != nil {
		return err
	}
	var index ocispec.Index
	if err := json.Unmarshal(text, &index); err != nil {
		return err
	}
	if err := writeIndex(s.dir, index.Manifests); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(s.dir, "ingest")); err != nil { // where the store makes its blobs
		return err
	}
	if extra != "" {
		if err := os.CopyFS(s.dir, os.DirFS(extra)); err != nil {
			return fmt.Errorf("files of %s to go into the bundle: %w", extra, err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.Open(self)
	if err != nil {
		return err
	}
	defer program.Close()
	if err := writeFile(filepath.Join(s.dir, loader), program); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(s.dir, loader), 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := image.Create(to, func(w io.Writer) error { return image.Pack(w, s.dir) }); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s\n\nInto a registry:  tar xf %[1]s %[2]s && ./%[2]s load -bundle %[1]s -registry HOST/PATH -certificate CERT\nOnto a node:      ctr -n k8s.io images import %[1]s\n", to, loader)
	return nil
}
