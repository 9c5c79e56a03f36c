// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

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
	c := &command{config: &rest.Config{Host: api.URL, BearerToken: "hunter2"}, patience: time.Minute}
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

// A node that takes connections and says nothing is given up, and others are shown.
func TestSilentNodeIsGivenUp(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	t.Cleanup(api.Close)
	t.Cleanup(func() { close(over) })
	c := &command{config: &rest.Config{Host: api.URL}, patience: 50 * time.Millisecond}
	_, err := c.logs(t.Context(), "a", "b", "c")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// A disk that is full is said, and not only where the output is JSON.
func TestFullOutputIsAnError(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, full.Close()) })
	err = run(t.Context(), []string{"version"}, output{Writer: full}, &bytes.Buffer{})
	require.ErrorContains(t, err, "no space left on device")
}
