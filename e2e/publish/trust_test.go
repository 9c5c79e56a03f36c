// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// authority signs certificates for many people.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority", Organization: []string{"test"}, Country: []string{"XX"}},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	encoded, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(encoded)
	require.NoError(t, err)
	return authority{key, certificate}
}

// issue writes a key and its certificate, which is good for 47 hours, followed by the
// authority's, and that one alone.
func (a authority) issue(t *testing.T, name string, until time.Time) (key, chain, root string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"test"}, Country: []string{"XX"}},
		NotBefore: until.Add(-47 * time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, BasicConstraintsValid: true,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), a.key)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name string, blocks ...*pem.Block) string {
		var text []byte
		for _, b := range blocks {
			text = append(text, pem.EncodeToMemory(b)...)
		}
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		return path
	}
	own, above := &pem.Block{Type: "CERTIFICATE", Bytes: signed}, &pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw}
	return write("key.pem", &pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), write("chain.pem", own, above), write("root.pem", above)
}

// An authority signs for others, too: who gives a certificate together with the authority's
// wants signatures of the former, and who gives the authority's alone those of all it signs for.
func TestAuthoritySignsForOthersToo(t *testing.T) {
	t.Parallel()
	both := newAuthority(t)
	key, chain, root := both.issue(t, "release", time.Now().Add(time.Hour))
	keyOther, chainOther, _ := both.issue(t, "another team", time.Now().Add(time.Hour))
	r := startRegistry(t, registry.WithReferrersSupport(true))
	bundle := func(key, chain string) string {
		path := filepath.Join(t.TempDir(), "b.tar")
		_, err := publish(t, "bundle", "-images", images(t, commit), "-o", path, "-key", key, "-certificate", chain)
		require.NoError(t, err)
		return path
	}
	own, others := bundle(key, chain), bundle(keyOther, chainOther)
	load := func(bundle, certificate string) error {
		_, err := publish(t, "load", "-bundle", bundle, "-registry", r.host+"/sriovkit", "-certificate", certificate)
		return err
	}
	require.ErrorContains(t, load(others, chain), "signature")
	require.Empty(t, r.written())
	require.NoError(t, load(own, chain))
	require.NoError(t, load(own, root))
	require.NoError(t, load(others, root))
}

// What cannot sign is refused before anything is asked or made.
func TestKeysThatCannotSign(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	expired, chain, _ := a.issue(t, "release", time.Now().Add(-time.Hour))
	early, later, _ := a.issue(t, "release", time.Now().Add(48*time.Hour))
	locked, sound := filepath.Join(t.TempDir(), "locked.pem"), ""
	require.NoError(t, os.WriteFile(locked, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}), 0o600))
	_, sound, _ = a.issue(t, "release", time.Now().Add(time.Hour))
	r := startRegistry(t)
	for name, tc := range map[string]struct{ key, chain, want string }{
		"expired":   {expired, chain, "chain.pem: it expired on"},
		"too early": {early, later, "chain.pem: it is valid from"},
		"encrypted": {locked, sound, "locked.pem is encrypted"},
	} {
		_, err := publish(t, "push", "-images", images(t, commit), "-registry", r.host+"/a", "-key", tc.key, "-certificate", tc.chain)
		require.ErrorContains(t, err, tc.want, name)
	}
	require.Empty(t, r.written())
}

// A sparse file is a few bytes in an archive and fills a disk outside.
func TestArchiveThatGrows(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	name := "oci-layout"
	// GNU's sparse format 0.1: no data, and a hole of the whole size.
	sparse := paxFile(t, name, map[string]string{
		"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": name, "GNU.sparse.size": strconv.Itoa(size),
		"GNU.sparse.numblocks": "1", "GNU.sparse.map": strconv.Itoa(size) + ",0",
	})
	path := filepath.Join(t.TempDir(), "sparse.tar")
	require.NoError(t, os.WriteFile(path, append(sparse, make([]byte, 1024)...), 0o600))
	dir := t.TempDir()
	_, err := unpack(path, dir)
	require.ErrorContains(t, err, "larger than the archive")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// A path in an archive does not lead out of where that is unpacked, also if its end looks like
// a blob's.
func TestArchiveThatLeadsOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"blobs/../../sha256/" + digest.FromString("a").Encoded(), "/oci-layout", "../oci-layout"} {
		var text bytes.Buffer
		archive := tar.NewWriter(&text)
		require.NoError(t, archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 1}))
		_, err := archive.Write([]byte("a"))
		require.NoError(t, errors.Join(err, archive.Close()))
		path := filepath.Join(dir, "a.tar")
		require.NoError(t, os.WriteFile(path, text.Bytes(), 0o600))
		_, err = unpack(path, filepath.Join(dir, "to"))
		require.ErrorContains(t, err, "leads out of it", name)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
}

// paxFile is an empty file with pax records, which the writer of the standard library does
// not take for sparse ones.
func paxFile(t *testing.T, name string, records map[string]string) []byte {
	t.Helper()
	var text bytes.Buffer
	for k, v := range records {
		line := " " + k + "=" + v + "\n"
		n := len(line) + 1
		for len(strconv.Itoa(n))+len(line) != n {
			n++
		}
		text.WriteString(strconv.Itoa(n) + line)
	}
	block := func(name string, kind byte, size int) []byte {
		h := make([]byte, 512)
		copy(h, name)
		copy(h[100:], "0000644\x00")
		copy(h[108:], "0000000\x000000000\x00")
		copy(h[124:], fmt.Sprintf("%011o\x00", size))
		copy(h[136:], "00000000000\x00")
		copy(h[148:], "        ")
		h[156] = kind
		copy(h[257:], "ustar\x0000")
		sum := 0
		for _, b := range h {
			sum += int(b)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		return h
	}
	out := append(block("pax", 'x', text.Len()), text.Bytes()...)
	out = append(out, make([]byte, (512-text.Len()%512)%512)...)
	return append(out, block(name, '0', 0)...)
}
