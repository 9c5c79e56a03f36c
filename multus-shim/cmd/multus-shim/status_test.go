// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/internal/apitest"
)

func TestStatusThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	failPatch := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch {
			apitest.Fail(w, http.StatusInternalServerError, "no")
		}
		return r.Method == http.MethodPatch
	}
	for name, policy := range map[string]string{"warn": "warn", "strict": "strict"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := twoNetworks(t)
			e.conf["statusFailure"], e.conf["apiTimeout"] = policy, "4s"
			e.api.Fault(failPatch)
			if policy == "warn" {
				out := e.must("ADD")
				assert.Contains(t, out.Stderr, "network-status is not written")
				assert.Equal(t, []string{"ADD eth0", "ADD net1", "ADD net2"}, names(e.calls()))
				return
			}
			e.mustFail("ADD", types.ErrTryAgainLater, "network-status")
			assert.Equal(t, []string{"ADD eth0", "ADD net1", "ADD net2", "DEL net2", "DEL net1", "DEL eth0"}, names(e.calls()))
			assert.Empty(t, e.leftovers())
		})
	}
}

// Only an answer that names the UID says that the pod is another one.
func TestStatusThatIsRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		code    int
		message string
		gone    bool
	}{
		"conflict":           {http.StatusConflict, "the object has been modified; please apply your changes to the latest version", false},
		"invalid":            {http.StatusUnprocessableEntity, "Pod is invalid: spec: Forbidden", false},
		"not found":          {http.StatusNotFound, "the server could not find the requested resource", false},
		"a GUID":             {http.StatusConflict, "admission: infinibandGUID in use", false},
		"other pod":          {http.StatusConflict, "Precondition failed: UID in precondition: a, UID in object meta: b", true},
		"other pod, by rule": {http.StatusUnprocessableEntity, "Pod is invalid: metadata.uid: Invalid value: field is immutable", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.conf["statusFailure"], e.conf["apiTimeout"] = "strict", "4s"
			e.api.Fault(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPatch {
					apitest.Fail(w, tc.code, tc.message)
				}
				return r.Method == http.MethodPatch
			})
			if tc.gone {
				assert.Contains(t, e.must("ADD").Stderr, "the pod is gone")
				return
			}
			e.mustFail("ADD", types.ErrTryAgainLater, tc.message)
		})
	}
}

func TestStatusConflictIsTriedAgain(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.detect()
	e.conf["statusFailure"] = "strict"
	var patches atomic.Int64
	e.api.Fault(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch || patches.Add(1) > 2 {
			return false
		}
		apitest.Fail(w, http.StatusConflict, "the object has been modified")
		return true
	})
	e.must("ADD")
	assert.Len(t, e.status(), 3)
	assert.Equal(t, int64(3), patches.Load())
}

// Nobody waits for the status of a pod that asked for no network.
func TestStatusOfAPlainPodIsTriedOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.api.Fault(func(w http.ResponseWriter, _ *http.Request) bool {
		apitest.Fail(w, http.StatusServiceUnavailable, "starting")
		return true
	})
	e.must("ADD")
	assert.Equal(t, []string{"PATCH status"}, e.asked())
}

// An ADD that is tried again says the same in the same Event.
func TestEventsAreAggregated(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.networks("none")
	e.mustFail("ADD", types.ErrInvalidNetworkConfig, "not found")
	e.mustFail("ADD", types.ErrInvalidNetworkConfig, "not found")
	e.networks("neither")
	e.mustFail("ADD", types.ErrInvalidNetworkConfig, "not found")
	var posts, patches []string
	for _, r := range e.api.Requests() {
		switch r.Method {
		case http.MethodPost:
			var event struct{ Metadata struct{ Name string } }
			require.NoError(t, json.Unmarshal([]byte(r.Body), &event))
			posts = append(posts, event.Metadata.Name)
		case http.MethodPatch:
			patches = append(patches, r.Path)
		}
	}
	require.Len(t, posts, 3)
	assert.Equal(t, posts[0], posts[1])
	assert.NotEqual(t, posts[0], posts[2])
	assert.Equal(t, []string{"/api/v1/namespaces/ns1/events/" + posts[0]}, patches)
}

func TestStatusPolicy(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string][2]bool{ // without and with a selection
		"always": {true, true}, "annotated": {false, true}, "never": {false, false},
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			for i, networks := range []string{"", "neta"} {
				e := newEnv(t)
				e.conf["statusPolicy"] = policy
				e.nad("neta", "")
				e.networks(networks)
				e.must("ADD")
				assert.Equal(t, want[i], e.api.Annotation(podNS, podName, "k8s.v1.cni.cncf.io/network-status") != "")
			}
		})
	}
}

func TestReplacedPodGetsNoStatus(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.conf["statusFailure"] = "strict"
	e.api.PutPod(podNS, podName, "uid-2", nil)
	out := e.must("ADD")
	assert.Contains(t, out.Stderr, "the pod is gone")
	assert.Empty(t, e.api.Annotation(podNS, podName, "k8s.v1.cni.cncf.io/network-status"), "its successor is left alone")
}
