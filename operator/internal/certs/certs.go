// SPDX-License-Identifier: Apache-2.0

// Package certs keeps the certificate that webhooks are served with, and the authority
// by which API servers know it, as the content of one Secret that all replicas share.
//
// It is pure but for the random keys: the time is an argument. Nothing outside the
// webhook configurations trusts the authority.
package certs

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"slices"
	"time"
)

// Keys of the Secret; the serving pair is where a Secret of type kubernetes.io/tls has it.
const (
	CACert = "ca.crt" // the authorities to trust, PEM, the one that signs first
	CAKey  = "ca.key" // of the first
	Cert   = "tls.crt"
	Key    = "tls.key"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	servingLife   = 365 * 24 * time.Hour
	// overlap is how long a new authority is published before it signs: by then every
	// webhook configuration trusts it.
	overlap = time.Hour
	// skew between the clocks of replicas and API servers that does no harm.
	skew = time.Hour
)

// Renew returns what the Secret should contain now, and when to ask again. The result
// is data itself if it is good as it is. Whatever cannot be read is made anew.
func Renew(data map[string][]byte, hosts []string, now time.Time) (map[string][]byte, time.Time, error) {
	out := maps.Clone(data)
	if out == nil {
		out = map[string][]byte{}
	}
	changed := false
	authorities := slices.DeleteFunc(parseCerts(data[CACert]), func(c *x509.Certificate) bool { return now.After(c.NotAfter) })
	key := parseKey(data[CAKey])
	if len(authorities) == 0 || !signsFor(key, authorities[0]) || !fresh(authorities[0], now) {
		authority, k, err := newAuthority(now)
		if err != nil {
			return nil, time.Time{}, err
		}
		authorities, key, changed = append([]*x509.Certificate{authority}, authorities...), k, true
		if out[CAKey], err = encodeKey(key); err != nil {
			return nil, time.Time{}, err
		}
		out[CACert] = encodeCerts(authorities)
	}
	signer := authorities[0]
	serving := parsePair(data[Cert], data[Key])
	if serving == nil || !fresh(serving, now) || !covers(serving, hosts) ||
		!slices.ContainsFunc(authorities, func(a *x509.Certificate) bool { return serving.CheckSignatureFrom(a) == nil }) ||
		serving.CheckSignatureFrom(signer) != nil && !now.Before(signsFrom(signer)) {
		cert, k, err := newServing(signer, key, hosts, now)
		if err != nil {
			return nil, time.Time{}, err
		}
		serving, changed = cert, true
		out[Cert] = encodeCerts([]*x509.Certificate{cert})
		if out[Key], err = encodeKey(k); err != nil {
			return nil, time.Time{}, err
		}
	}
	next := earlier(renewAt(serving), renewAt(signer))
	if serving.CheckSignatureFrom(signer) != nil {
		next = earlier(next, signsFrom(signer))
	}
	if !changed {
		return data, next, nil
	}
	return out, next, nil
}

// Expires is when the serving certificate in data ends; the zero time if there is none.
func Expires(data map[string][]byte) time.Time {
	if c := parsePair(data[Cert], data[Key]); c != nil {
		return c.NotAfter
	}
	return time.Time{}
}

// fresh reports whether more than a third of a certificate's life is left.
func fresh(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && now.Before(renewAt(c))
}

func renewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2)
}

// signsFrom is when an authority has been known for long enough.
func signsFrom(c *x509.Certificate) time.Time { return c.NotBefore.Add(skew + overlap) }

func covers(c *x509.Certificate, hosts []string) bool {
	return !slices.ContainsFunc(hosts, func(h string) bool { return c.VerifyHostname(h) != nil })
}

func signsFor(key *ecdsa.PrivateKey, c *x509.Certificate) bool {
	return key != nil && key.PublicKey.Equal(c.PublicKey)
}

// parsePair returns the certificate of a pair that fits together, or nil.
func parsePair(cert, key []byte) *x509.Certificate {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil
	}
	return pair.Leaf
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
