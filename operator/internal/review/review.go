// SPDX-License-Identifier: Apache-2.0

// Package review guards an HTTP handler by asking the API server whose a bearer token is
// (TokenReview) and whether they may read the path (SubjectAccessReview), as other components
// of Kubernetes do
// (https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access).
// It needs the rights to create both kinds of review, as the role system:auth-delegator has.
package review

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	// remember is how long an answer that allows is kept; a refusal is not kept.
	remember = time.Minute
	// remembered at most.
	remembered = 64
	// atOnce is how many requests may be asked about at a time: whoever has a wrong token can
	// send any number.
	atOnce = 4
	// patience with the API server.
	patience = 10 * time.Second
)

// Filter is for metricsserver.Options.
func Filter(cfg *rest.Config, hc *http.Client) (metricsserver.Filter, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{authenticationv1.AddToScheme, authorizationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	c, err := client.New(cfg, client.Options{HTTPClient: hc, Scheme: scheme})
	return func(log logr.Logger, next http.Handler) (http.Handler, error) {
		return &guard{api: c, next: next, log: log, slots: make(chan struct{}, atOnce), now: time.Now}, nil
	}, err
}

type guard struct {
	api   client.Writer
	next  http.Handler
	log   logr.Logger
	slots chan struct{}
	now   func() time.Time

	mu  sync.Mutex
	may map[request]time.Time // until when
}

// request of somebody; their token is not kept.
type request struct {
	token      [sha256.Size]byte
	verb, path string
}

// ServeHTTP serves what the API server allows, else 401 or 403; 503 if it does not say.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); token == "" || !strings.EqualFold(scheme, "Bearer") {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "a bearer token of the cluster is needed", http.StatusUnauthorized)
		return
	}
	req := request{sha256.Sum256([]byte(token)), strings.ToLower(r.Method), r.URL.Path}
	if !g.known(req) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		status, message, err := g.ask(ctx, token, req)
		if err != nil {
			g.log.Error(err, "metrics not served: the API server does not say whether they may be")
		}
		if status != http.StatusOK {
			http.Error(w, message, status)
			return
		}
		g.note(req)
	}
	g.next.ServeHTTP(w, r)
}

// ask returns the answer to a request, and what to tell whoever sent it.
func (g *guard) ask(ctx context.Context, token string, req request) (status int, message string, err error) {
	const unknown = "the API server does not say whether this is allowed"
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	case <-ctx.Done():
		return http.StatusServiceUnavailable, unknown, nil
	}
	who := authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	if err := g.api.Create(ctx, &who); err != nil {
		return http.StatusServiceUnavailable, unknown, err
	}
	if !who.Status.Authenticated {
		return http.StatusUnauthorized, "the token is not one of this cluster, or has expired", nil
	}
	user := who.Status.User
	may := authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: map[string]authorizationv1.ExtraValue{},
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: req.verb, Path: req.path},
	}}
	for k, v := range user.Extra {
		may.Spec.Extra[k] = authorizationv1.ExtraValue(v)
	}
	if err := g.api.Create(ctx, &may); err != nil {
		return http.StatusServiceUnavailable, unknown, err
	}
	if !may.Status.Allowed {
		return http.StatusForbidden, user.Username + " may not " + req.verb + " " + req.path +
			": bind it to the ClusterRole sriov-network-operator-metrics-reader", nil
	}
	return http.StatusOK, "", nil
}

func (g *guard) known(req request) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now().Before(g.may[req])
}

func (g *guard) note(req request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.may == nil || len(g.may) >= remembered {
		g.may = map[request]time.Time{}
	}
	g.may[req] = g.now().Add(remember)
}
