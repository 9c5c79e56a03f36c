// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// leases is as much of an API server as the holders of one Lease need.
type leases struct {
	mu      sync.Mutex
	stored  *coordinationv1.Lease
	version int
}

// door is a way to the leases which may get stuck: requests are not answered any more.
func (l *leases) door(t *testing.T, stuck *atomic.Bool) *rest.Config {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if stuck.Load() {
			_, _ = io.Copy(io.Discard, req.Body) // or nobody notices that the client gives up
			<-req.Context().Done()
			return
		}
		l.serve(w, req)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections() // an event waits for its answer for ever
		server.Close()
	})
	return &rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

func (l *leases) serve(w http.ResponseWriter, req *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	var sent coordinationv1.Lease
	if req.Method != http.MethodGet {
		if err := json.NewDecoder(req.Body).Decode(&sent); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if sent.Kind == "Event" {
			_ = json.NewEncoder(w).Encode(sent)
			return
		}
	}
	switch {
	case req.Method == http.MethodGet && l.stored == nil:
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`))
		return
	case req.Method == http.MethodGet:
	case l.stored != nil && sent.ResourceVersion != l.stored.ResourceVersion:
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Conflict","code":409}`))
		return
	default:
		l.version++
		sent.ResourceVersion = strconv.Itoa(l.version)
		l.stored = &sent
	}
	_ = json.NewEncoder(w).Encode(l.stored)
}

// A replica whose lease is not renewed has stopped before another one works, also if it
// cannot give the lease up either, and says why it ends.
func TestLostLease(t *testing.T) {
	t.Parallel()
	times := lease{elect: true, duration: 15 * time.Second, renew: time.Second, retry: 200 * time.Millisecond}
	require.NoError(t, times.check())
	var l leases
	var stuck, open atomic.Bool
	happened := make(chan string, 10)
	replica := func(name string, door *rest.Config) (ended chan error) {
		opts := ctrl.Options{Metrics: metricsserver.Options{BindAddress: "0"}}
		times.use(&opts, "ns")
		mgr, err := ctrl.NewManager(door, opts)
		require.NoError(t, err)
		require.NoError(t, mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
			happened <- name + " works"
			<-ctx.Done()
			happened <- name + " stops"
			return nil
		})))
		ended = make(chan error, 1)
		go func() { ended <- times.work(t.Context(), mgr) }()
		return ended
	}
	next := func() string {
		select {
		case what := <-happened:
			return what
		case <-time.After(2 * time.Minute):
			return "nothing"
		}
	}
	first := replica("first", l.door(t, &stuck))
	require.Equal(t, "first works", next())
	replica("second", l.door(t, &open))
	stuck.Store(true)
	require.Equal(t, "first stops", next())
	require.ErrorContains(t, <-first, "lease sriovkit-operator could not be renewed for 1s")
	require.Equal(t, "second works", next())
}

// Times by which two replicas could work at once are refused.
func TestLeaseTimes(t *testing.T) {
	for args, want := range map[[3]string]string{
		{}:                     "",
		{"15s", "10s", "2s"}:   "-leader-elect-lease-duration 15s: want more than -leader-elect-retry-period and twice -leader-elect-renew-deadline, 22s",
		{"137s", "107s", "4s"}: "-leader-elect-lease-duration 2m17s: want more than",
		{"137s", "60s", "16s"}: "",
		{"60s", "5s", "4s"}:    "-leader-elect-renew-deadline 5s: want at least twice -leader-elect-retry-period, 8s",
		{"60s", "5s", "0s"}:    "-leader-elect-retry-period 0s: want more than 0",
		{"60s", "5s", "-1s"}:   "-leader-elect-retry-period -1s: want more than 0",
	} {
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		var l lease
		l.flags(flags)
		var given []string
		for i, name := range []string{"-leader-elect-lease-duration", "-leader-elect-renew-deadline", "-leader-elect-retry-period"} {
			if args[i] != "" {
				given = append(given, name+"="+args[i])
			}
		}
		require.NoError(t, flags.Parse(given))
		err := l.check()
		if want == "" {
			require.NoError(t, err, args)
			continue
		}
		require.ErrorContains(t, err, want)
	}
}
