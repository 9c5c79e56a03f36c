// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"
)

// attentive ends requests in the middle of which the registry falls silent: it takes nothing
// more of what is sent, or sends nothing more, for a time. How long the whole may take is the
// line's affair, and how long an answer takes to begin is that of the transport below.
type attentive struct {
	below http.RoundTripper
	limit time.Duration
}

// silence is why a request was ended.
type silence struct {
	registry, did, what string
	limit               time.Duration
}

func (s *silence) Error() string {
	return fmt.Sprintf("registry %s has %s nothing more of %s for %s; look at its disk and at proxies before it, or let it take longer: -patience %s",
		s.registry, s.did, s.what, s.limit, 5*s.limit)
}

// RoundTrip implements http.RoundTripper.
func (a attentive) RoundTrip(q *http.Request) (*http.Response, error) {
	ctx, end := context.WithCancelCause(q.Context())
	watch := func(did string) *time.Timer {
		t := time.AfterFunc(time.Hour, func() { end(&silence{registry: q.URL.Host, did: did, what: subject(q), limit: a.limit}) })
		t.Stop()
		return t
	}
	out := q.WithContext(ctx)
	sending := watch("taken")
	if q.Body != nil && q.Body != http.NoBody {
		wrap := func(body io.ReadCloser) io.ReadCloser {
			return &sent{ReadCloser: body, watch: sending, limit: a.limit}
		}
		out.Body = wrap(q.Body)
		if again := q.GetBody; again != nil {
			out.GetBody = func() (io.ReadCloser, error) {
				body, err := again()
				if err != nil {
					return nil, err
				}
				return wrap(body), nil
			}
		}
	}
	answer, err := a.below.RoundTrip(out)
	sending.Stop()
	if err != nil {
		err = because(ctx, err)
		end(nil)
		return nil, err
	}
	answer.Body = &received{ReadCloser: answer.Body, ctx: ctx, end: end, watch: watch("sent"), limit: a.limit}
	return answer, nil
}

// because is the silence that a request was ended for, or what went wrong instead.
func because(ctx context.Context, err error) error {
	var s *silence
	if errors.As(context.Cause(ctx), &s) {
		return s
	}
	return err
}

// sent is a body whose next part is asked for when the registry has taken the last one.
type sent struct {
	io.ReadCloser
	watch *time.Timer
	limit time.Duration
}

func (s *sent) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.watch.Reset(s.limit)
	return n, err
}

// Close comes before the last bytes are written, and the time that an answer may take after.
func (s *sent) Close() error {
	s.watch.Reset(2 * s.limit)
	return s.ReadCloser.Close()
}

// received is a body whose reader may take its time, but not the registry.
type received struct {
	io.ReadCloser
	ctx   context.Context //nolint:containedctx // of the request that this is the answer to
	end   context.CancelCauseFunc
	watch *time.Timer
	limit time.Duration
}

func (r *received) Read(p []byte) (int, error) {
	r.watch.Reset(r.limit)
	n, err := r.ReadCloser.Read(p)
	r.watch.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = because(r.ctx, err)
	}
	return n, err
}

func (r *received) Close() error {
	defer r.end(nil)
	return r.ReadCloser.Close()
}

// subject is what a request is about, for people.
func subject(q *http.Request) string {
	last, above := path.Base(q.URL.Path), path.Dir(q.URL.Path)
	switch kind := path.Base(above); {
	case strings.HasSuffix(above, "/blobs/uploads"):
		return "blob " + q.URL.Query().Get("digest")
	case kind == "blobs":
		return "blob " + last
	case kind == "manifests":
		return "manifest " + last
	case kind == "referrers":
		return "the list of what refers to " + last
	}
	return q.URL.Path
}
