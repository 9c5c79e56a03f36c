// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/notaryproject/notation-go"
	notationregistry "github.com/notaryproject/notation-go/registry"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/stretchr/testify/require"
)

// What the page on images says makes a key, push signs with it, and the page's policy accepts
// the signatures.
func TestPageOnKeys(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/images.md")
	require.NoError(t, err)
	command := regexp.MustCompile(`(?s)openssl req.*?\n\n`).Find(page)
	policy := regexp.MustCompile(`(?s)echo '(\{.*?)' > policy\.json`).FindSubmatch(page)
	require.NotNil(t, command)
	require.NotNil(t, policy)
	var document trustpolicy.Document
	require.NoError(t, json.Unmarshal(policy[1], &document))
	dir := t.TempDir()
	shell := exec.CommandContext(t.Context(), "sh", "-c", string(command))
	shell.Dir = dir
	said, err := shell.CombinedOutput()
	require.NoError(t, err, string(said))

	r, certificate := startRegistry(t), filepath.Join(dir, "cert.pem")
	_, err = publish(t, "push", "-images", images(t, commit), "-registry", r.host+"/sriovkit", "-key", filepath.Join(dir, "key.pem"), "-certificate", certificate)
	require.NoError(t, err)
	check, err := verifier.New(&document, trust([]*x509.Certificate{readCertificate(t, certificate)}), nil)
	require.NoError(t, err)
	repo := r.repository(t, "first")
	image, err := repo.Resolve(t.Context(), "v1")
	require.NoError(t, err)
	_, _, err = notation.Verify(t.Context(), check, notationregistry.NewRepository(repo), notation.VerifyOptions{
		ArtifactReference: repo.Reference.String() + "@" + string(image.Digest), MaxSignatureAttempts: 4,
	})
	require.NoError(t, err)
}
