// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/registry"
	"github.com/notaryproject/notation-go/signer"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
)

// signingKey says what signatures are made with, or that there shall be none.
type signingKey struct {
	key, certificate string
	unsigned         bool
}

func (k *signingKey) flags(flags *flag.FlagSet) {
	flags.StringVar(&k.key, "key", "", "PEM `file` of the private key to sign with")
	flags.StringVar(&k.certificate, "certificate", "", "PEM `file` of its certificate, for code signing, and of those above it")
	flags.BoolVar(&k.unsigned, "unsigned", false, "do not sign")
}

// open reads the key, before anything is built or sent. It returns nil where nothing is to be
// signed.
func (k *signingKey) open() (notation.Signer, error) {
	switch {
	case k.unsigned && (k.key != "" || k.certificate != ""):
		return nil, errors.New("-unsigned and a key: give one of them")
	case k.unsigned:
		return nil, nil
	case k.key == "" || k.certificate == "":
		return nil, errors.New("no key to sign with: give -key and -certificate (KEY= and CERT= of make), or -unsigned (UNSIGNED=1)")
	}
	if err := k.usable(); err != nil {
		return nil, err
	}
	s, err := signer.NewFromFiles(k.key, k.certificate)
	if err != nil {
		return nil, fmt.Errorf("key %s with certificate %s: %w", k.key, k.certificate, err)
	}
	return s, nil
}

// usable is an error if the files say themselves that nothing can be signed with them now.
func (k *signingKey) usable() error {
	text, err := os.ReadFile(k.key)
	if err != nil {
		return err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if strings.Contains(block.Type+block.Headers["Proc-Type"], "ENCRYPTED") {
			return fmt.Errorf("key %s is encrypted: give one without a passphrase, such as openssl pkey writes", k.key)
		}
	}
	chain, err := readCertificates(k.certificate)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, c := range chain {
		switch {
		case now.After(c.NotAfter):
			return fmt.Errorf("certificate %s: it expired on %s (%s)", k.certificate, c.NotAfter.Format(time.RFC3339), c.Subject)
		case now.Before(c.NotBefore):
			return fmt.Errorf("certificate %s: it is valid from %s on (%s)", k.certificate, c.NotBefore.Format(time.RFC3339), c.Subject)
		}
	}
	return nil
}

// sign adds a signature to every image and to everything that refers to one.
func (s *stage) sign(ctx context.Context, with notation.Signer) error {
	if with == nil {
		return nil
	}
	return s.eachSigned(ctx, func(repo registry.Repository, d ocispec.Descriptor) error {
		_, err := notation.Sign(ctx, with, repo, notation.SignOptions{
			ArtifactReference: string(d.Digest), SignerSignOptions: notation.SignerSignOptions{SignatureMediaType: jws.MediaTypeEnvelope},
		})
		return err
	})
}

// verify is an error if an image or what refers to one is not signed by the holder of the
// certificate in a file, or has expired since, if an image has another's name, or if there is
// more that a push would take along.
func (s *stage) verify(ctx context.Context, certificate string) error {
	check, err := verifierFor(certificate)
	if err != nil {
		return err
	}
	for _, img := range s.images {
		if err := img.ownName(); err != nil {
			return err
		}
	}
	err = s.eachSigned(ctx, func(repo registry.Repository, d ocispec.Descriptor) error {
		_, _, err := notation.Verify(ctx, check, repo, notation.VerifyOptions{ArtifactReference: inBundle(d), MaxSignatureAttempts: 16})
		return err
	})
	if err != nil {
		return err
	}
	return s.covered(ctx, check)
}

// ownName is an error if an image is listed under a name that is not its own. Signatures are
// about content: without this, the list could give the new version's name to a signed image
// of an old one. The labels are content.
func (s staged) ownName() error {
	title, version := s.Labels[ocispec.AnnotationTitle], s.Labels[ocispec.AnnotationVersion]
	if title != s.component() || version != s.tag() {
		return fmt.Errorf("image %s is %s of version %s by its labels: the archive gives it another's name", s.Name, title, version)
	}
	return nil
}

// eachSigned calls do for everything that signatures belong to.
func (s *stage) eachSigned(ctx context.Context, do func(registry.Repository, ocispec.Descriptor) error) error {
	repo := registry.NewRepository(s.store)
	for _, img := range s.images {
		all, err := s.signable(ctx, img)
		if err != nil {
			return err
		}
		for _, d := range all {
			if err := do(repo, d); err != nil {
				return fmt.Errorf("signature of %s, %s: %w", img.Name, d.Digest, err)
			}
		}
	}
	return nil
}

// signable are an image and what was said of it, whatever the kind, but for signatures.
func (s *stage) signable(ctx context.Context, img staged) ([]ocispec.Descriptor, error) {
	all := []ocispec.Descriptor{img.Root}
	for _, subject := range append([]ocispec.Descriptor{img.Root}, img.Platforms...) {
		referrers, err := s.store.Predecessors(ctx, plain(subject))
		if err != nil {
			return nil, err
		}
		for _, r := range referrers {
			var m ocispec.Manifest
			if err := s.read(ctx, r, &m); err != nil {
				return nil, err
			}
			if m.Subject != nil && m.Subject.Digest == subject.Digest && m.Config.MediaType != registry.ArtifactTypeNotation {
				all = append(all, plain(r))
			}
		}
	}
	return all, nil
}

// complete reports whether a registry has, beside an image, all that refers to it. What was
// pushed before may have come without signatures, or with another's.
func (s *stage) complete(ctx context.Context, repo *remote.Repository, img staged) (bool, error) {
	all, err := s.signable(ctx, img)
	if err != nil {
		return false, err
	}
	var check notation.Verifier
	if s.signedBy != "" { // just now: the registry has other bytes of the same signer
		if check, err = verifierFor(s.signedBy); err != nil {
			return false, err
		}
	}
	there := func(d ocispec.Descriptor) bool {
		ok, err := repo.Exists(ctx, d)
		return err == nil && ok // what fails here will fail, with its reason, when it is pushed
	}
	for _, d := range all {
		if !there(d) {
			return false, nil
		}
		if check != nil {
			at := repo.Reference.Registry + "/" + repo.Reference.Repository + "@" + string(d.Digest)
			_, _, err = notation.Verify(ctx, check, registry.NewRepository(repo), notation.VerifyOptions{ArtifactReference: at, MaxSignatureAttempts: 16})
			if err != nil {
				return false, nil
			}
			continue
		}
		referrers, err := s.store.Predecessors(ctx, d)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(referrers, func(r ocispec.Descriptor) bool { return !there(r) }) {
			return false, nil
		}
	}
	return true, nil
}

// verifierFor accepts signatures of the certificate in a file, and of those below it. Of a
// chain that is the first: an authority above it signs for others, too.
func verifierFor(certificate string) (notation.Verifier, error) {
	chain, err := readCertificates(certificate)
	if err != nil {
		return nil, err
	}
	return newVerifier(chain[:1])
}

// readCertificates reads one certificate or more.
func readCertificates(file string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", file, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("certificate %s: no PEM block of a certificate in it", file)
	}
	return out, nil
}

func newVerifier(trusted []*x509.Certificate) (notation.Verifier, error) {
	policy := &trustpolicy.Document{Version: "1.0", TrustPolicies: []trustpolicy.TrustPolicy{{
		Name: "release", RegistryScopes: []string{"*"},
		SignatureVerification: trustpolicy.SignatureVerification{
			VerificationLevel: trustpolicy.LevelStrict.Name,
			// Where there is no network nobody can be asked.
			Override: map[trustpolicy.ValidationType]trustpolicy.ValidationAction{trustpolicy.TypeRevocation: trustpolicy.ActionSkip},
		},
		TrustStores: []string{"ca:release"}, TrustedIdentities: []string{"*"},
	}}}
	return verifier.New(policy, trust(trusted), nil)
}

// trust is a trust store of the Notary Project in memory.
type trust []*x509.Certificate

func (t trust) GetCertificates(context.Context, truststore.Type, string) ([]*x509.Certificate, error) {
	return t, nil
}
