// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Sentinels of the answers callers decide on; a StatusError matches them.
var (
	ErrNotFound     = errors.New("not found")
	ErrUnauthorized = errors.New("not known") // 401: the token has expired or its pod is gone; it passes
	ErrForbidden    = errors.New("not allowed")
)

// StatusError is an answer of the API server other than success.
type StatusError struct {
	Code    int    // HTTP status
	Message string // what the server said
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("API server answered %d %s: %s", e.Code, http.StatusText(e.Code), e.Message)
}

// Is maps the status code to the sentinels.
func (e *StatusError) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Code == http.StatusNotFound
	case ErrUnauthorized:
		return e.Code == http.StatusUnauthorized
	case ErrForbidden:
		return e.Code == http.StatusForbidden
	}
	return false
}

const (
	maxBody    = 8 << 20 // bytes read of an answer
	firstPause = 50 * time.Millisecond
	maxPause   = time.Second
	// deadPeer bounds how long a connection that answers nothing is kept: a
	// dial, and a ping on an established session.
	deadPeer = 3 * time.Second
)

// Client talks to one API server. Requests share one connection (HTTP/2).
type Client struct {
	credentials *Credentials
	http        *http.Client
}

// New returns a client. It connects on the first request.
func New(c *Credentials) *Client {
	return &Client{credentials: c, http: &http.Client{Transport: &http.Transport{
		Proxy:             c.Proxy,
		DialContext:       (&net.Dialer{Timeout: deadPeer}).DialContext,
		TLSClientConfig:   c.TLS,
		ForceAttemptHTTP2: true,
		MaxConnsPerHost:   1, // concurrent requests wait for the first one's session instead of opening their own
		HTTP2:             &http.HTTP2Config{SendPingTimeout: deadPeer, PingTimeout: deadPeer},
	}}}
}

// Close ends the session.
func (c *Client) Close() { c.http.CloseIdleConnections() }

type request struct {
	method, path, contentType string
	query                     url.Values
	body                      []byte
	once                      bool // no retries
	conflict                  bool // a conflict with another writer passes
}

// do sends a request until it succeeds, fails for good, or ctx ends; ctx must
// have a deadline. It retries what may pass: no connection, no answer in time,
// 429 and 5xx, after Retry-After where the server gives one. A 401 is tried
// once more with the token file read again.
func (c *Client) do(ctx context.Context, r request, out any) error {
	pause, refused := firstPause, false
	var said *StatusError // the server's last word: it may explain the silence after it
	for {
		after, err := c.try(ctx, r, out)
		var status *StatusError
		var untrusted *tls.CertificateVerificationError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &status) && said != nil:
			err = fmt.Errorf("%w; then %w", said, err)
		case status != nil:
			said = status
		}
		switch {
		case status != nil && status.Code == http.StatusUnauthorized && !refused:
			refused = true
			continue
		case errors.As(err, &untrusted):
			return err
		case r.once || ctx.Err() != nil || status != nil && !passing(status.Code) &&
			(!r.conflict || status.Code != http.StatusConflict || status.otherUID()):
			return err
		}
		wait := max(after, pause/2+rand.N(pause))
		if deadline, _ := ctx.Deadline(); time.Until(deadline) < wait {
			return err
		}
		pause = min(2*pause, maxPause)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// otherUID reports whether the server refused because the object of the name is
// another one by now: it names the UID it was asked for ("UID in precondition: …", "the UID
// in the precondition", "metadata.uid: … field is immutable"). Other words may hold those
// letters, such as a GUID.
func (e *StatusError) otherUID() bool {
	return (e.Code == http.StatusConflict || e.Code == http.StatusUnprocessableEntity) &&
		(strings.Contains(" "+e.Message, " UID in ") || strings.Contains(e.Message, "metadata.uid"))
}

func passing(code int) bool {
	switch code {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// try sends the request once, within half of the time that is left so that an
// answer that got lost leaves time for another attempt. after is what the
// server asks to wait.
func (c *Client) try(ctx context.Context, r request, out any) (after time.Duration, err error) {
	if deadline, ok := ctx.Deadline(); ok && !r.once {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	resp, err := c.send(ctx, r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return 0, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return retryAfter(resp), &StatusError{Code: resp.StatusCode, Message: message(body)}
	}
	if out == nil {
		return 0, nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return 0, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	return 0, nil
}

// send sends the request with the token of this moment.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	target := c.credentials.Server.JoinPath(r.path)
	target.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	token, err := c.credentials.token()
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Accept", "application/json")
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	return c.http.Do(req)
}

// retryAfter reads the header's form in seconds, the only one API servers send.
func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// message is that of a Status object, or the start of whatever came instead.
func message(body []byte) string {
	var status struct{ Message string }
	if json.Unmarshal(body, &status) == nil && status.Message != "" {
		return status.Message
	}
	const limit = 200
	return string(body[:min(len(body), limit)])
}
