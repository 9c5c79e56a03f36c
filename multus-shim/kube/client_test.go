// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ask reads a pod of a server; end ends the time that is left.
func ask(t *testing.T, serve func(w http.ResponseWriter, r *http.Request, nth int32, end func())) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	var count atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r, count.Add(1), cancel) }))
	defer server.Close()
	address, err := url.Parse(server.URL)
	require.NoError(t, err)
	c := New(&Credentials{Server: address})
	defer c.Close()
	_, err = c.Pod(ctx, "ns", "p")
	return err
}

// A server that only fails is tried until the time is over, and its answer is the error.
func TestServerThatStaysAway(t *testing.T) {
	t.Parallel()
	err := ask(t, func(w http.ResponseWriter, _ *http.Request, nth int32, end func()) {
		http.Error(w, "etcd is lost", http.StatusInternalServerError)
		if nth == 3 {
			end()
		}
	})
	require.ErrorContains(t, err, "etcd is lost")
}

// What the server said last is worth more than that it then said nothing.
func TestServerThatFallsSilent(t *testing.T) {
	t.Parallel()
	err := ask(t, func(w http.ResponseWriter, r *http.Request, nth int32, end func()) {
		if nth == 1 {
			http.Error(w, "etcd is lost", http.StatusInternalServerError)
			return
		}
		end()
		<-r.Context().Done()
	})
	require.ErrorContains(t, err, "etcd is lost")
	require.ErrorIs(t, err, context.Canceled)
}
