// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

var tlsVersions = map[string]uint16{"VersionTLS12": tls.VersionTLS12, "VersionTLS13": tls.VersionTLS13}

// tlsGroups has the names of IANA's registry "TLS Supported Groups".
var tlsGroups = map[string]tls.CurveID{
	"X25519": tls.X25519, "X25519MLKEM768": tls.X25519MLKEM768,
	"secp256r1": tls.CurveP256, "secp384r1": tls.CurveP384, "secp521r1": tls.CurveP521,
}

// tlsSettings is what the operator's TLS servers offer.
type tlsSettings struct {
	minVersion uint16
	suites     []uint16      // of TLS 1.2; nil is Go's own choice
	groups     []tls.CurveID // nil is Go's own choice
	insecure   []string      // suites that were asked for and are left out
}

// readTLS reads TLS_MIN_VERSION (VersionTLS12 or VersionTLS13, which is the default),
// TLS_CIPHER_SUITES and TLS_CURVE_PREFERENCES (names of IANA, separated by commas). The suites
// of TLS 1.3 may be in the list and are offered in any case. An error names the variable, the
// value and what would be right.
func readTLS(getenv func(string) string) (tlsSettings, error) {
	s := tlsSettings{minVersion: tls.VersionTLS13}
	var errs []error
	if v := strings.TrimSpace(getenv("TLS_MIN_VERSION")); v != "" {
		var known bool
		if s.minVersion, known = tlsVersions[v]; !known {
			errs = append(errs, unknownTLS("TLS_MIN_VERSION", v, slices.Collect(maps.Keys(tlsVersions))))
		}
	}
	secure := map[string]uint16{}
	for _, suite := range tls.CipherSuites() {
		secure[suite.Name] = suite.ID
	}
	isInsecure := func(name string) bool {
		return slices.ContainsFunc(tls.InsecureCipherSuites(), func(s *tls.CipherSuite) bool { return s.Name == name })
	}
	for _, name := range listed(getenv("TLS_CIPHER_SUITES")) {
		if id, known := secure[name]; known {
			s.suites = append(s.suites, id)
		} else if isInsecure(name) {
			s.insecure = append(s.insecure, name)
		} else {
			errs = append(errs, unknownTLS("TLS_CIPHER_SUITES", name, slices.Collect(maps.Keys(secure))))
		}
	}
	for _, name := range listed(getenv("TLS_CURVE_PREFERENCES")) {
		id, known := tlsGroups[name]
		if !known {
			errs = append(errs, unknownTLS("TLS_CURVE_PREFERENCES", name, slices.Collect(maps.Keys(tlsGroups))))
			continue
		}
		s.groups = append(s.groups, id)
	}
	return s, errors.Join(errs...)
}

// apply is for the servers' options.
func (s tlsSettings) apply(c *tls.Config) {
	c.MinVersion, c.CipherSuites, c.CurvePreferences = s.minVersion, s.suites, s.groups
}

// listed splits a list of names, separated by commas.
func listed(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func unknownTLS(variable, value string, known []string) error {
	slices.Sort(known)
	return fmt.Errorf("%s: %q is not known: want of %s", variable, value, strings.Join(known, ", "))
}
