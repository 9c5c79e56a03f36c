// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
)

// Who answers on a node's port for metrics does not get the token of who asks: a redirection
// is not followed, to another host or back to the API server.
func TestRedirectionGetsNoToken(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 8)
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Authorization")
	}))
	t.Cleanup(thief.Close)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.URL, http.StatusFound) // as the proxy of a pod passes it on
	}))
	t.Cleanup(api.Close)
	c := &command{config: &rest.Config{Host: api.URL, BearerToken: "hunter2"}}
	_, err := c.get(t.Context(), "/api/v1/namespaces/a/pods/b:9110/proxy/metrics", nil, whole)
	require.ErrorContains(t, err, "302 Found")
	require.Empty(t, asked)
}

// A node that counts what is no number does not keep those of others from being shown.
func TestMetricsAreNumbers(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"NaN", "+Inf", "-Inf"} {
		_, err := parseMetrics("w1", []byte(`sriov_vf_rx_bytes{pciAddr="0000:3b:01.0",pf="a",vf="0"} `+value+"\n"))
		require.ErrorContains(t, err, "want a number", value)
	}
}

// What steers a terminal is text in JSON, too: all controls beyond those that JSON escapes.
func TestJSONSteersNoTerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := &command{output: output{Writer: &out}}
	require.NoError(t, c.printJSON(map[string]string{"a": "\x7f\u009b31m\u202eü\U000e0001"}))
	require.Equal(t, "{\n  \"a\": \"\\u007f\\u009b31m\\u202eü\\udb40\\udc01\"\n}\n", out.String())
}
