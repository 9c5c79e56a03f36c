// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// doc is a kubeconfig with one cluster and one user of the given members.
func doc(cluster, user string) string {
	return "contexts: [{name: c, context: {cluster: k, user: u}}]\ncurrent-context: c\nclusters: [{name: k, cluster: {" + cluster + "}}]\nusers: [{name: u, user: {" + user + "}}]\n"
}

func TestKubeconfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte("secret\n"), 0o600))
	path := filepath.Join(dir, "kubeconfig")
	require.NoError(t, os.WriteFile(path, []byte(doc("server: 'https://[fd00::1]:6443', tls-server-name: api, insecure-skip-tls-verify: true", "token: old, tokenFile: token")), 0o600))
	c, err := Load(path)
	require.NoError(t, err)
	assert.Equal(t, "https://[fd00::1]:6443", c.Server.String())
	assert.Equal(t, "api", c.TLS.ServerName)
	assert.True(t, c.TLS.InsecureSkipVerify)
	token, err := c.token()
	require.NoError(t, err)
	assert.Equal(t, "secret", token, "the file, relative to the kubeconfig, wins")

	c, err = parse([]byte(`{"contexts":[{"name":"x","context":{"cluster":"k"}}],"clusters":[{"name":"k","cluster":{"server":"http://a"}}]}`), dir)
	require.NoError(t, err, "JSON, and a single context that is not named")
	token, err = c.token()
	require.NoError(t, err)
	assert.Empty(t, token)
}

func TestKubeconfigNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	const server = "server: 'https://a'"
	for text, want := range map[string]string{
		"{":                  "yaml",
		"current-context: x": `current-context "x" is not defined`,
		"contexts: [{name: c, context: {cluster: k}}]":                      `cluster "k" of context "c"`,
		doc("server: 'ftp://a'", ""):                                        `server "ftp://a"`,
		doc("", ""):                                                         `server ""`,
		doc(server, "exec: {command: x}"):                                   "exec and auth-provider",
		doc(server+", certificate-authority: /none", ""):                    "certificate-authority",
		doc(server+", certificate-authority-data: eA==", ""):                "no PEM certificate",
		doc(server, "client-certificate: /none"):                            "client-certificate",
		doc(server, "client-certificate-data: eA==, client-key-data: eA=="): "client-certificate",
		doc(server+", proxy-url: '%'", ""):                                  "proxy-url",
	} {
		c, err := parse([]byte(text), "/")
		assert.ErrorContains(t, err, want, text)
		assert.Nil(t, c, text)
	}
}

// Brackets belong around IPv6 addresses; older installers wrote them around any host.
func TestKubeconfigServer(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"https://[10.43.0.1]:443":            "https://10.43.0.1:443",
		"https://[10.43.0.1]":                "https://10.43.0.1",
		"https://[10.43.0.1]/":               "https://10.43.0.1/",
		"https://[10.43.0.1]:443/prefix":     "https://10.43.0.1:443/prefix",
		"https://[api.example.com]:443":      "https://api.example.com:443",
		"http://[localhost]:8080":            "http://localhost:8080",
		"https://[fd00::1]:443":              "https://[fd00::1]:443",
		"https://[::ffff:10.43.0.1]:443":     "https://[::ffff:10.43.0.1]:443",
		"https://[fe80::1%25eth0]:443":       "https://[fe80::1%25eth0]:443",
		"https://10.43.0.1:443":              "https://10.43.0.1:443",
		"https://example.com/x?u=http://[a]": "https://example.com/x?u=http://[a]",
	} {
		c, err := parse([]byte(doc("server: '"+given+"'", "token: t")), "/")
		if assert.NoError(t, err, given) {
			assert.Equal(t, want, c.Server.String(), given)
		}
	}
	for _, given := range []string{
		"https://[]:443", "https://:443", "https://[10.43.0.1]443", "https://[10.43.0.1", "https://[[10.43.0.1]]:443", "https://[a@b]:443",
		"https://[10.43.0.1]:x", "[10.43.0.1]:443",
	} {
		_, err := parse([]byte(doc("server: '"+given+"'", "token: t")), "/")
		assert.ErrorContains(t, err, "server ", given)
	}
}

func TestInCluster(t *testing.T) {
	t.Parallel()
	_, ok, err := InCluster(func(string) string { return "" })
	require.NoError(t, err)
	assert.False(t, ok)
}

func FuzzKubeconfig(f *testing.F) {
	f.Add([]byte(doc("server: 'https://a'", "token: t")))
	f.Add([]byte(`{"contexts":[null],"clusters":[{}],"users":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		// Paths in the input lead nowhere from here.
		c, err := parse(data, "/nonexistent")
		require.NotEqual(t, err == nil, c == nil, "a value or an error")
		if err == nil {
			require.NotEmpty(t, c.Server.Host)
		}
	})
}
