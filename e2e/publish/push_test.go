// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/notaryproject/notation-go"
	notationregistry "github.com/notaryproject/notation-go/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

// What is in the registry is what a client of the registry finds by the published ways:
// images for both platforms, what is inside of each and how it was made as referrers, and a
// signature of each by the key, checked by the library of the public tool. A registry that
// knows no referrers gets them by tags, as the specification says.
func TestPush(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]registry.Option{
		"with referrers": {registry.WithReferrersSupport(true)}, "without": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRegistry(t, options...)
			key, certificate := keyPair(t, x509.ExtKeyUsageCodeSigning)
			dir := images(t, commit)
			out, err := publish(t, "push", "-images", dir, "-registry", r.host+"/sriovkit", "-key", key, "-certificate", certificate)
			require.NoError(t, err)
			require.Equal(t, 2, strings.Count(out, " pushed\n"), out)
			for _, component := range []string{"first", "second"} {
				checkPublished(t, r.repository(t, component), certificate)
			}

			r.set(nil)
			out, err = publish(t, "push", "-images", dir, "-registry", r.host+"/sriovkit", "-key", key, "-certificate", certificate)
			require.NoError(t, err)
			require.Equal(t, 2, strings.Count(out, " there already\n"), out)
			require.Empty(t, r.written(), "a second push of the same changes nothing")

			other, certificateOther := keyPair(t, x509.ExtKeyUsageCodeSigning)
			_, err = publish(t, "push", "-images", dir, "-registry", r.host+"/sriovkit", "-key", other, "-certificate", certificateOther)
			require.NoError(t, err)
			for _, component := range []string{"first", "second"} {
				checkPublished(t, r.repository(t, component), certificateOther)
			}
		})
	}
}

// Images that are in the registry without signatures get them from a push that has a key, and
// from a bundle that has them.
func TestPushSignsWhatIsThere(t *testing.T) {
	t.Parallel()
	key, certificate := keyPair(t, x509.ExtKeyUsageCodeSigning)
	dir, bundle := images(t, commit), filepath.Join(t.TempDir(), "bundle.tar")
	_, err := publish(t, "bundle", "-images", dir, "-o", bundle, "-key", key, "-certificate", certificate)
	require.NoError(t, err)
	for name, args := range map[string][]string{
		"push": {"push", "-images", dir, "-key", key, "-certificate", certificate}, "load": {"load", "-bundle", bundle, "-certificate", certificate},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRegistry(t, registry.WithReferrersSupport(true))
			_, err := publish(t, "push", "-images", dir, "-registry", r.host+"/sriovkit", "-unsigned")
			require.NoError(t, err)
			_, err = publish(t, append(args, "-registry", r.host+"/sriovkit")...)
			require.NoError(t, err)
			for _, component := range []string{"first", "second"} {
				checkPublished(t, r.repository(t, component), certificate)
			}
			r.set(nil)
			out, err := publish(t, append(args, "-registry", r.host+"/sriovkit")...)
			require.NoError(t, err)
			require.Equal(t, 2, strings.Count(out, " there already\n"), out)
			require.Empty(t, r.written())
		})
	}
}

func checkPublished(t *testing.T, repo *remote.Repository, certificate string) {
	t.Helper()
	root, err := repo.Resolve(t.Context(), "v1")
	require.NoError(t, err)
	var index ocispec.Index
	fetch(t, repo, root, &index)
	require.Len(t, index.Manifests, 2)
	require.Equal(t, commit, index.Annotations[ocispec.AnnotationRevision])
	checkSigned(t, repo, root, certificate)

	for _, platform := range index.Manifests {
		var bom cdx.BOM
		sbom := referrer(t, repo, platform, mediaTypeSBOM)
		fetch(t, repo, sbom.layer, &bom)
		checkSigned(t, repo, sbom.manifest, certificate)
		require.Equal(t, string(platform.Digest), bom.Metadata.Component.BOMRef)
		var purls []string
		for _, c := range *bom.Components {
			purls = append(purls, c.Name)
		}
		require.ElementsMatch(t, []string{"github.com/sriovkit/sriovkit/e2e/cmd/pause", "std"}, purls)
	}

	var made statement
	provenance := referrer(t, repo, root, mediaTypeStatement)
	fetch(t, repo, provenance.layer, &made)
	checkSigned(t, repo, provenance.manifest, certificate)
	require.Equal(t, predicateType, made.PredicateType)
	var subjects []string
	for _, s := range made.Subject {
		subjects = append(subjects, "sha256:"+s.Digest["sha256"])
	}
	require.Equal(t, []string{string(root.Digest), string(index.Manifests[0].Digest), string(index.Manifests[1].Digest)}, subjects)
	build := made.Predicate.BuildDefinition
	require.Equal(t, []resource{{URI: "git+https://example.org/repo", Digest: map[string]string{"gitCommit": commit}}}, build.ResolvedDependencies)
	require.Equal(t, []any{"linux/amd64", "linux/arm64"}, build.ExternalParameters["platforms"])
	require.Equal(t, runtime.Version(), build.InternalParameters["go"])
	require.Equal(t, "true", build.InternalParameters["-trimpath"])
}

func fetch(t *testing.T, from content.Fetcher, d ocispec.Descriptor, into any) {
	t.Helper()
	text, err := content.FetchAll(t.Context(), from, d)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, into))
}

type artifact struct{ manifest, layer ocispec.Descriptor }

func referrer(t *testing.T, repo *remote.Repository, subject ocispec.Descriptor, kind string) artifact {
	t.Helper()
	var found []ocispec.Descriptor
	require.NoError(t, repo.Referrers(t.Context(), subject, kind, func(some []ocispec.Descriptor) error {
		found = append(found, some...)
		return nil
	}))
	require.Len(t, found, 1, kind)
	var m ocispec.Manifest
	fetch(t, repo, found[0], &m)
	require.Len(t, m.Layers, 1)
	return artifact{found[0], m.Layers[0]}
}

func verifySignature(ctx context.Context, repo *remote.Repository, d ocispec.Descriptor, certificate *x509.Certificate) error {
	check, err := newVerifier([]*x509.Certificate{certificate})
	if err != nil {
		return err
	}
	_, _, err = notation.Verify(ctx, check, notationregistry.NewRepository(repo), notation.VerifyOptions{
		ArtifactReference: repo.Reference.String() + "@" + string(d.Digest), MaxSignatureAttempts: 4,
	})
	return err
}

func checkSigned(t *testing.T, repo *remote.Repository, d ocispec.Descriptor, certificate string) {
	t.Helper()
	require.NoError(t, verifySignature(t.Context(), repo, d, readCertificate(t, certificate)))
	_, other := keyPair(t, x509.ExtKeyUsageCodeSigning)
	require.Error(t, verifySignature(t.Context(), repo, d, readCertificate(t, other)), "the check can fail")
}

func TestPushLeavesTagsAlone(t *testing.T) {
	t.Parallel()
	r := startRegistry(t, registry.WithReferrersSupport(true))
	_, err := publish(t, "push", "-images", images(t, commit), "-registry", r.host+"/sriovkit", "-unsigned")
	require.NoError(t, err)
	before, err := r.repository(t, "second").Resolve(t.Context(), "v1")
	require.NoError(t, err)

	r.set(nil)
	other := images(t, "another commit")
	_, err = publish(t, "push", "-images", other, "-registry", r.host+"/sriovkit", "-unsigned")
	require.ErrorContains(t, err, "sriovkit/first:v1 is there already")
	require.ErrorContains(t, err, "sriovkit/second:v1 is there already: "+string(before.Digest))
	require.ErrorContains(t, err, "-replace")
	require.Empty(t, r.written(), "nothing half-done")

	_, err = publish(t, "push", "-images", other, "-registry", r.host+"/sriovkit", "-unsigned", "-replace")
	require.NoError(t, err)
	after, err := r.repository(t, "second").Resolve(t.Context(), "v1")
	require.NoError(t, err)
	require.NotEqual(t, before.Digest, after.Digest)
}

// A registry that fails in the middle has no tag of the release; a second push needs no
// cleaning up before it.
func TestPushToRegistryThatFails(t *testing.T) {
	t.Parallel()
	deny := func(w http.ResponseWriter, status int, text string) bool {
		w.WriteHeader(status)
		_, err := w.Write([]byte(`{"errors":[{"code":"DENIED","message":"` + text + `"}]}`))
		return err == nil
	}
	for name, tc := range map[string]struct {
		fail   func(http.ResponseWriter, *http.Request) bool
		want   string
		tagged []string
	}{
		"full": {func(w http.ResponseWriter, q *http.Request) bool {
			return q.Method == http.MethodPost && strings.Contains(q.URL.Path, "/second/") && deny(w, http.StatusForbidden, "quota of 10 MB exceeded")
		}, "quota of 10 MB exceeded", []string{}},
		"refuses manifests": {func(w http.ResponseWriter, q *http.Request) bool {
			return q.Method == http.MethodPut && strings.Contains(q.URL.Path, "/second/manifests/") && deny(w, http.StatusRequestEntityTooLarge, "too large")
		}, "too large", []string{}},
		"refuses the login": {func(w http.ResponseWriter, _ *http.Request) bool {
			return deny(w, http.StatusUnauthorized, "authentication required")
		}, "401", []string{}},
		"lets all read and few write": {func(w http.ResponseWriter, q *http.Request) bool {
			return q.Method == http.MethodPost && deny(w, http.StatusUnauthorized, "authentication required")
		}, "log in with docker login", []string{}},
		"refuses a tag": {func(w http.ResponseWriter, q *http.Request) bool {
			return q.Method == http.MethodPut && strings.HasSuffix(q.URL.Path, "/second/manifests/v1") && deny(w, http.StatusForbidden, "immutable")
		}, "push again", []string{"first"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRegistry(t, registry.WithReferrersSupport(true))
			r.set(tc.fail)
			dir := images(t, commit)
			_, err := publish(t, "push", "-images", dir, "-registry", r.host+"/sriovkit", "-unsigned")
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, r.host, "it says which registry")
			r.set(nil)
			require.Equal(t, tc.tagged, r.tagged(t))

			_, err = publish(t, "push", "-images", dir, "-registry", r.host+"/sriovkit", "-unsigned")
			require.NoError(t, err)
			require.Equal(t, []string{"first", "second"}, r.tagged(t))
		})
	}
}

func TestPushRefuses(t *testing.T) {
	t.Parallel()
	r := startRegistry(t)
	dir := images(t, commit)
	key, certificate := keyPair(t, x509.ExtKeyUsageCodeSigning)
	_, otherCertificate := keyPair(t, x509.ExtKeyUsageCodeSigning)
	serverKey, serverCertificate := keyPair(t, x509.ExtKeyUsageServerAuth)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	away := listener.Addr().String()
	require.NoError(t, listener.Close())
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, silent.Close()) })
	secure := httptest.NewUnstartedServer(registry.New())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshakes that it is here for
	secure.StartTLS()
	t.Cleanup(secure.Close)
	withTLS := strings.TrimPrefix(secure.URL, "https://") + "/a"
	damaged := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(damaged, "first.tar"), []byte("not a tar file"), 0o600))

	to := []string{"-registry", r.host + "/sriovkit"}
	signed := []string{"-key", key, "-certificate", certificate}
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"no key":               {to, "no key to sign with: give -key"},
		"key without its half": {append([]string{"-key", key}, to...), "no key to sign with"},
		"missing key":          {append([]string{"-key", "/no/such/key", "-certificate", certificate}, to...), "/no/such/key"},
		"another's key":        {append([]string{"-key", key, "-certificate", otherCertificate}, to...), "does not match"},
		"a server's key":       {append([]string{"-key", serverKey, "-certificate", serverCertificate}, to...), "xtended key usage"},
		"both":                 {append([]string{"-unsigned", "-key", key}, to...), "give one of them"},
		"no patience":          {append([]string{"-patience", "0s"}, append(to, signed...)...), "want a positive duration"},
		"no registry":          {signed, "give the registry"},
		"registry away":        {append([]string{"-registry", away}, signed...), "ask registry " + away},
		"silent registry":      {append([]string{"-registry", silent.Addr().String() + "/a", "-patience", "10ms"}, signed...), "timeout"},
		"unknown authority":    {append([]string{"-registry", withTLS, "-plain-http=false"}, signed...), "SSL_CERT_FILE="},
		"TLS on loopback":      {append([]string{"-registry", withTLS}, signed...), "-plain-http=false"},
		"no TLS":               {append([]string{"-registry", r.host + "/a", "-plain-http=false"}, signed...), "speaks without TLS: -plain-http"},
		"a stray word":         {append([]string{"now"}, to...), `"now": all is given by flags`},
		"registry's name":      {append([]string{"-registry", "Nonsense//"}, signed...), `registry "Nonsense//", want one such as`},
		"no images":            {append([]string{"-images", t.TempDir()}, append(to, signed...)...), "run make images"},
		"damaged image":        {append([]string{"-images", damaged}, append(to, signed...)...), "first.tar"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := publish(t, append([]string{"push", "-images", dir}, tc.args...)...)
			require.ErrorContains(t, err, tc.want)
		})
	}
	require.Empty(t, r.written(), "nothing half-done")
}
