// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"

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
	trust := "-certificate CERT"
	if s.signedBy == "" {
		trust = "-unsigned"
	}
	_, err = fmt.Fprintf(stdout, "%s\n\nInto a registry:  tar xf %[1]s %[2]s && ./%[2]s load -bundle %[1]s -registry HOST/PATH %[3]s\nOnto a node:      ctr -n k8s.io images import %[1]s\n", to, loader, trust)
	return err
}

// checkCharts is an error if a chart asks for another version than the images are: it could
// not be installed from the bundle.
func (s *stage) checkCharts(extra string) error {
	if extra == "" {
		return nil
	}
	charts, err := filepath.Glob(filepath.Join(extra, "charts", "*.tgz"))
	if err != nil {
		return err
	}
	for _, chart := range charts {
		version, err := appVersion(chart)
		if err != nil {
			return fmt.Errorf("chart %s: %w", chart, err)
		}
		for _, img := range s.images {
			if img.tag() != version {
				return fmt.Errorf("chart %s is for images of version %s, and %s is not one: make images ARGS='-tag V' and make bundle VERSION=V, of one version V such as v0.1.0",
					filepath.Base(chart), version, img.Name)
			}
		}
	}
	return nil
}

var appVersionLine = regexp.MustCompile(`(?m)^appVersion: *"?([^"\s]+)"?$`)

// appVersion is the version of the images that a packed chart asks for.
func appVersion(chart string) (string, error) {
	f, err := os.Open(chart)
	if err != nil {
		return "", err
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return "", err
	}
	for r := tar.NewReader(unzipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return "", errors.New("no appVersion in it")
		}
		if err != nil {
			return "", err
		}
		if path.Base(h.Name) != "Chart.yaml" {
			continue
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return "", err
		}
		if found := appVersionLine.FindSubmatch(text); found != nil {
			return string(found[1]), nil
		}
	}
}
