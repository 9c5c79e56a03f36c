// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func tlsOf(t *testing.T, env map[string]string) (tlsSettings, error) {
	t.Helper()
	return readTLS(func(k string) string { return env[k] })
}

// What a client gets of a server with the settings.
func TestTLSHandshakes(t *testing.T) {
	shake := func(env map[string]string, client *tls.Config) (tls.ConnectionState, error) {
		t.Helper()
		s, err := tlsOf(t, env)
		require.NoError(t, err)
		server := httptest.NewUnstartedServer(nil)
		server.Config.ErrorLog = nil
		server.TLS = &tls.Config{}
		s.apply(server.TLS)
		server.StartTLS()
		defer server.Close()
		client.InsecureSkipVerify = true //nolint:gosec // of a test's own server
		conn, err := tls.Dial("tcp", server.Listener.Addr().String(), client)
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer conn.Close()
		return conn.ConnectionState(), nil
	}
	old := &tls.Config{MaxVersion: tls.VersionTLS12}
	_, err := shake(nil, old)
	require.ErrorContains(t, err, "protocol version", "TLS 1.3 is the default")
	got, err := shake(map[string]string{"TLS_MIN_VERSION": "VersionTLS12", "TLS_CIPHER_SUITES": "TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"}, old)
	require.NoError(t, err)
	require.Equal(t, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, got.CipherSuite)
	got, err = shake(map[string]string{"TLS_CURVE_PREFERENCES": "secp384r1"}, &tls.Config{})
	require.NoError(t, err)
	require.Equal(t, tls.CurveP384, got.CurveID)
	require.Equal(t, uint16(tls.VersionTLS13), got.Version)
	_, err = shake(map[string]string{"TLS_CURVE_PREFERENCES": "secp384r1"}, &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}})
	require.Error(t, err)
}

func TestTLSSettings(t *testing.T) {
	for variable, values := range map[string][]string{
		"TLS_MIN_VERSION":       {"1.2", "VersionTLS11", "versiontls12"},
		"TLS_CIPHER_SUITES":     {"TLS_NONE", "TLS_AES_128_GCM_SHA256,ECDHE"},
		"TLS_CURVE_PREFERENCES": {"X25519,p384"},
	} {
		for _, value := range values {
			_, err := tlsOf(t, map[string]string{variable: value})
			require.ErrorContains(t, err, variable, value)
			require.ErrorContains(t, err, "want of", value)
		}
	}
	s, err := tlsOf(t, map[string]string{"TLS_CIPHER_SUITES": "TLS_RSA_WITH_RC4_128_SHA,TLS_AES_128_GCM_SHA256"})
	require.NoError(t, err)
	require.Equal(t, []string{"TLS_RSA_WITH_RC4_128_SHA"}, s.insecure)
	require.Equal(t, []uint16{tls.TLS_AES_128_GCM_SHA256}, s.suites)

	_, err = readSettings(func(k string) string {
		return map[string]string{"NAMESPACE": "ns", "RESOURCE_PREFIX": "p", "TLS_MIN_VERSION": "3"}[k]
	})
	require.ErrorContains(t, err, `TLS_MIN_VERSION: "3" is not known: want of VersionTLS12, VersionTLS13`)
}
