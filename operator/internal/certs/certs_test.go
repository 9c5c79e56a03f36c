// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"crypto/x509"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	hosts = []string{"webhook.ns.svc", "127.0.0.1"}
	begun = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
)

// trusted reports whether an API server with this bundle accepts this server.
func trusted(t *testing.T, bundle, serving map[string][]byte, now time.Time) error {
	t.Helper()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(bundle[CACert]))
	leaf := parsePair(serving[Cert], serving[Key])
	require.NotNil(t, leaf, "certificate and key fit together")
	for _, h := range hosts {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, DNSName: h}); err != nil {
			return err
		}
	}
	return nil
}

func mustRenew(t *testing.T, data map[string][]byte, now time.Time) (map[string][]byte, time.Time) {
	t.Helper()
	out, next, err := Renew(data, hosts, now)
	require.NoError(t, err)
	require.True(t, next.After(now), "no busy loop")
	return out, next
}

// Over forty years, asked at the times it names or somewhat late, it never leaves an
// API server whose bundle is up to an overlap old without trust in what is served.
func TestNoGap(t *testing.T) {
	data, next := mustRenew(t, nil, begun)
	require.NoError(t, trusted(t, data, data, begun))
	authorities, servings := 1, 1
	for now := begun; now.Before(begun.Add(4 * authorityLife)); {
		now = next.Add(time.Duration(rand.Int64N(int64(24 * time.Hour))))
		require.NoError(t, trusted(t, data, data, now), "in time")
		before := maps.Clone(data)
		data, next = mustRenew(t, data, now)
		require.NoError(t, trusted(t, before, data, now), "with the bundle from before")
		require.NoError(t, trusted(t, data, before, now), "a replica that has not changed over yet")
		if string(before[CAKey]) != string(data[CAKey]) {
			authorities++
			require.Equal(t, before[Cert], data[Cert], "an authority is known before it signs")
		}
		if string(before[Cert]) != string(data[Cert]) {
			servings++
		}
		require.LessOrEqual(t, len(parseCerts(data[CACert])), 2)
	}
	require.Greater(t, authorities, 4)
	require.Greater(t, servings, 50)
}

func TestGoodIsLeftAlone(t *testing.T) {
	data, next := mustRenew(t, nil, begun)
	again, at := mustRenew(t, data, begun.Add(time.Minute))
	require.Equal(t, data, again)
	require.Equal(t, next, at)
	require.Equal(t, begun.Add(servingLife), Expires(data).UTC())
	require.True(t, Expires(nil).IsZero())
}

func TestWhatCannotBeUsedIsMadeAnew(t *testing.T) {
	good, _ := mustRenew(t, nil, begun)
	other, _ := mustRenew(t, nil, begun)
	for name, tc := range map[string]struct {
		spoil       func(map[string][]byte)
		now         time.Time
		keepsAuthor bool
	}{
		"empty":                   {func(d map[string][]byte) { clear(d) }, begun, false},
		"rubbish":                 {func(d map[string][]byte) { d[CACert], d[CAKey] = []byte("rubbish"), []byte("rubbish") }, begun, false},
		"key of another":          {func(d map[string][]byte) { d[CAKey] = other[CAKey] }, begun, false},
		"no authority's key":      {func(d map[string][]byte) { delete(d, CAKey) }, begun, false},
		"serving key of another":  {func(d map[string][]byte) { d[Key] = other[Key] }, begun, true},
		"signed by another":       {func(d map[string][]byte) { d[Cert], d[Key] = other[Cert], other[Key] }, begun, true},
		"serving pair expired":    {func(map[string][]byte) {}, begun.Add(2 * servingLife), true},
		"authority expired":       {func(map[string][]byte) {}, begun.Add(2 * authorityLife), false},
		"made in the future":      {func(map[string][]byte) {}, begun.Add(-24 * time.Hour), false},
		"certificate cut in half": {func(d map[string][]byte) { d[Cert] = d[Cert][:len(d[Cert])/2] }, begun, true},
	} {
		t.Run(name, func(t *testing.T) {
			data := maps.Clone(good)
			tc.spoil(data)
			got, _ := mustRenew(t, data, tc.now)
			require.NotEqual(t, data, got)
			require.NoError(t, trusted(t, got, got, tc.now))
			require.Equal(t, tc.keepsAuthor, string(good[CAKey]) == string(got[CAKey]))
		})
	}
}

func TestOtherHosts(t *testing.T) {
	data, _ := mustRenew(t, nil, begun)
	got, _, err := Renew(data, []string{"elsewhere.ns.svc"}, begun)
	require.NoError(t, err)
	require.Equal(t, data[CACert], got[CACert], "what is trusted stays")
	require.NoError(t, parsePair(got[Cert], got[Key]).VerifyHostname("elsewhere.ns.svc"))
}
