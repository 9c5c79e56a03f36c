// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/stretchr/testify/require"
)

func readCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return c
}

// A bundle loads into a registry exactly what a push would have brought there, from the
// archive alone.
func TestBundle(t *testing.T) {
	t.Parallel()
	key, certificate := keyPair(t, x509.ExtKeyUsageCodeSigning)
	extra := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(extra, "charts"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(extra, "charts", "a.tgz"), chart(t, "v1"), 0o644))
	bundle := filepath.Join(t.TempDir(), "bundle.tar")
	_, err := publish(t, "bundle", "-images", images(t, commit), "-o", bundle, "-extra", extra, "-key", key, "-certificate", certificate)
	require.NoError(t, err)

	names := map[string]int64{}
	text, err := os.ReadFile(bundle)
	require.NoError(t, err)
	for r := tar.NewReader(bytes.NewReader(text)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		names[h.Name] = h.Mode
	}
	require.Contains(t, names, "oci-layout")
	require.Contains(t, names, "index.json")
	require.Contains(t, names, "charts/a.tgz")
	require.Equal(t, int64(0o755), names[loader])

	r := startRegistry(t, registry.WithReferrersSupport(true))
	_, err = publish(t, "load", "-bundle", bundle, "-registry", r.host+"/sriovkit", "-certificate", certificate)
	require.NoError(t, err)
	for _, component := range []string{"first", "second"} {
		checkPublished(t, r.repository(t, component), certificate)
	}
}

// chart is a packed chart for images of a version.
func chart(t *testing.T, version string) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	text := "apiVersion: v2\nname: a\nappVersion: " + version + "\n"
	require.NoError(t, archive.WriteHeader(&tar.Header{Name: "a/Chart.yaml", Mode: 0o644, Size: int64(len(text))}))
	_, err := io.WriteString(archive, text)
	require.NoError(t, err)
	require.NoError(t, errors.Join(archive.Close(), zipped.Close()))
	return out.Bytes()
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	key, certificate := keyPair(t, x509.ExtKeyUsageCodeSigning)
	_, stranger := keyPair(t, x509.ExtKeyUsageCodeSigning)
	dir := t.TempDir()
	signed, unsigned := filepath.Join(dir, "signed.tar"), filepath.Join(dir, "unsigned.tar")
	from := images(t, commit)
	_, err := publish(t, "bundle", "-images", from, "-o", signed, "-key", key, "-certificate", certificate)
	require.NoError(t, err)
	_, err = publish(t, "bundle", "-images", from, "-o", unsigned, "-unsigned")
	require.NoError(t, err)
	text, err := os.ReadFile(signed)
	require.NoError(t, err)
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	cut := write("cut.tar", text[:len(text)/2])
	changed := write("changed.tar", bytes.ReplaceAll(text, []byte(commit), bytes.Repeat([]byte("f"), len(commit))))
	gzipped := bytes.Index(text, []byte{0x1f, 0x8b}) // the first layer
	require.Positive(t, gzipped)
	flipped := bytes.Clone(text)
	flipped[gzipped+1000] ^= 1
	damaged := write("damaged.tar", flipped)
	renamed := write("renamed.tar", bytes.ReplaceAll(text, []byte("docker.io/sriovkit/first:v1"), []byte("docker.io/sriovkit/first:v2")))
	misnamed := write("misnamed.tar", bytes.ReplaceAll(text, []byte("docker.io/sriovkit/first:v1"), []byte("docker.io/sriovkit/other:v1")))
	notPEM := write("cert.txt", []byte("hello"))

	r := startRegistry(t)
	for name, tc := range map[string]struct {
		bundle, certificate, want string
	}{
		"none":             {"", certificate, "give the archive"},
		"missing":          {filepath.Join(dir, "none.tar"), certificate, "none.tar"},
		"cut off":          {cut, certificate, "cut.tar"},
		"no word of trust": {signed, "", "give -certificate, or -unsigned"},
		"changed":          {changed, certificate, "is not what its name says"},
		"damaged layer":    {damaged, certificate, "is not what its name says"},
		"another's name":   {renamed, certificate, "first:v2 is first of version v1 by its labels"},
		"another image's":  {misnamed, certificate, "other:v1 is first of version v1 by its labels"},
		"unsigned":         {unsigned, certificate, "signature"},
		"stranger":         {signed, stranger, "signature"},
		"not a PEM file":   {signed, notPEM, "no PEM block"},
		"no certificate":   {signed, filepath.Join(dir, "nothing.pem"), "nothing.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			r.set(nil)
			_, err := publish(t, "load", "-bundle", tc.bundle, "-registry", r.host+"/sriovkit", "-certificate", tc.certificate)
			require.ErrorContains(t, err, tc.want)
			require.Empty(t, r.written(), "nothing half-done")
		})
	}
	_, err = publish(t, "load", "-bundle", signed, "-registry", r.host+"/sriovkit", "-certificate", certificate, "-unsigned")
	require.ErrorContains(t, err, "give one of them")
}

// What the making of a bundle prints loads it.
func TestPrintedCommandLoads(t *testing.T) {
	t.Parallel()
	key, certificate := keyPair(t, x509.ExtKeyUsageCodeSigning)
	for name, trust := range map[string][]string{"signed": {"-key", key, "-certificate", certificate}, "unsigned": {"-unsigned"}} {
		out, err := publish(t, append([]string{"bundle", "-images", images(t, commit), "-o", filepath.Join(t.TempDir(), "b.tar")}, trust...)...)
		require.NoError(t, err, name)
		_, command, ok := strings.Cut(out, "./publish ")
		require.True(t, ok, out)
		command, _, _ = strings.Cut(command, "\n")
		r := startRegistry(t, registry.WithReferrersSupport(true))
		args := strings.Fields(strings.NewReplacer("HOST/PATH", r.host+"/sriovkit", "CERT", certificate).Replace(command))
		_, err = publish(t, args...)
		require.NoError(t, err, command)
		require.Equal(t, []string{"first", "second"}, r.tagged(t), name)
	}
}

func TestBundleLeavesNothingHalfDone(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(other, "charts"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(other, "charts", "a-2.tgz"), chart(t, "v2"), 0o644))
	for extra, want := range map[string]string{
		"/no/such/dir": "/no/such/dir",
		other:          "chart a-2.tgz is for images of version v2, and docker.io/sriovkit/first:v1 is not one",
	} {
		_, err := publish(t, "bundle", "-images", images(t, commit), "-o", filepath.Join(dir, "b.tar"), "-extra", extra, "-unsigned")
		require.ErrorContains(t, err, want)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}
