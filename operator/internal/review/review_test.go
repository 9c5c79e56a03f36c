// SPDX-License-Identifier: Apache-2.0

package review

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// reviewer knows the tokens "reader" and "other", of which the first may read.
type reviewer struct {
	client.Writer
	asked int
	fails bool
}

func (r *reviewer) Create(_ context.Context, obj client.Object, _ ...client.CreateOption) error {
	r.asked++
	if r.fails {
		return errors.New("no answer")
	}
	switch o := obj.(type) {
	case *authenticationv1.TokenReview:
		o.Status.Authenticated = o.Spec.Token == "reader" || o.Spec.Token == "other"
		o.Status.User = authenticationv1.UserInfo{Username: o.Spec.Token, Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}}}
	case *authorizationv1.SubjectAccessReview:
		a := o.Spec.NonResourceAttributes
		o.Status.Allowed = o.Spec.User == "reader" && a.Verb == "get" && a.Path == "/metrics" && o.Spec.Extra["k"][0] == "v"
	}
	return nil
}

func TestWhoMayRead(t *testing.T) {
	for name, tc := range map[string]struct {
		header, path string
		fails        bool
		want, asked  int
	}{
		"nobody":             {"", "/metrics", false, http.StatusUnauthorized, 0},
		"a password":         {"Basic cmVhZGVyOng=", "/metrics", false, http.StatusUnauthorized, 0},
		"an empty token":     {"Bearer  ", "/metrics", false, http.StatusUnauthorized, 0},
		"an unknown token":   {"Bearer x", "/metrics", false, http.StatusUnauthorized, 1},
		"one who may not":    {"Bearer other", "/metrics", false, http.StatusForbidden, 2},
		"one who may":        {"bearer reader", "/metrics", false, http.StatusOK, 2},
		"but not everything": {"Bearer reader", "/debug", false, http.StatusForbidden, 2},
		"nobody knows":       {"Bearer reader", "/metrics", true, http.StatusServiceUnavailable, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := &reviewer{fails: tc.fails}
			served := false
			g := &guard{api: api, log: logr.Discard(), slots: make(chan struct{}, 1), now: time.Now, next: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true })}
			req := httptest.NewRequest(http.MethodGet, tc.path, nil)
			if tc.header != "" {
				req.Header.Set("Authorization", tc.header)
			}
			answer := httptest.NewRecorder()
			g.ServeHTTP(answer, req)
			require.Equal(t, tc.want, answer.Code, answer.Body)
			require.Equal(t, tc.want == http.StatusOK, served)
			require.Equal(t, tc.asked, api.asked)
			require.False(t, strings.Contains(answer.Body.String(), "no answer"), "what goes on inside is nobody's business")
		})
	}
}

// Who may is remembered for a minute, who may not is not; and memory has an end.
func TestRemembering(t *testing.T) {
	now := time.Now()
	api := &reviewer{}
	g := &guard{api: api, log: logr.Discard(), slots: make(chan struct{}, 1), now: func() time.Time { return now }, next: http.NotFoundHandler()}
	ask := func(token string) int {
		before := api.asked
		req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		g.ServeHTTP(httptest.NewRecorder(), req)
		return api.asked - before
	}
	require.Equal(t, []int{2, 0, 2, 2}, []int{ask("reader"), ask("reader"), ask("other"), ask("other")})
	now = now.Add(remember)
	require.Equal(t, []int{2, 0}, []int{ask("reader"), ask("reader")})
	for i := range 3 * remembered {
		g.note(request{path: strings.Repeat("/", i)})
		require.LessOrEqual(t, len(g.may), remembered)
	}
}
