// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// destination is a registry and the path below which the images go.
type destination struct {
	registry  string
	plainHTTP *bool // nil: without TLS on loopback alone
	replace   bool
	patience  time.Duration
}

func (d *destination) flags(flags *flag.FlagSet) {
	flags.StringVar(&d.registry, "registry", "", "`registry` and path to push to, such as registry.example:5000/sriovkit")
	flags.BoolFunc("plain-http", "speak without TLS (=false: with it); not given, only to a registry on this machine's loopback", func(s string) error {
		plain, err := strconv.ParseBool(s)
		d.plainHTTP = &plain
		return err
	})
	flags.DurationVar(&d.patience, "patience", time.Minute, "how long the registry may take to answer a request, which is made six times, and be silent in the middle of one")
	flags.BoolVar(&d.replace, "replace", false, "let tags that exist point to these images from now on")
}

// target is one image and the repository it goes to.
type target struct {
	image staged
	repo  *remote.Repository
	done  bool // the tag is there and means this image, and what refers to it is there
}

// push brings all images and what refers to them to the registry. Tags come last: until
// everything is there, none of them is set, and what a failure leaves is content that no tag
// leads to, which registries collect and a second push uses.
func (d *destination) push(ctx context.Context, s *stage, stdout io.Writer) error {
	targets, err := d.check(ctx, s)
	if err != nil {
		return err
	}
	for i := range targets {
		t := &targets[i]
		if t.done {
			if t.done, err = s.complete(ctx, t.repo, t.image); err != nil {
				return err
			}
		}
		if t.done {
			continue
		}
		// This follows references upwards from each platform's image: to the index, and to all
		// that refers to either.
		for _, p := range t.image.Platforms {
			if err := oras.ExtendedCopyGraph(ctx, s.store, t.repo, plain(p), oras.DefaultExtendedCopyGraphOptions); err != nil {
				return fmt.Errorf("push %s to %s: %w; no tag was set, push again once that is mended%s", t.image.Name, t.repo.Reference, err, remedy(err))
			}
		}
	}
	var unsaid error // what was done and could not be printed
	for _, t := range targets {
		state := "pushed"
		if t.done {
			state = "there already"
		} else if err := t.repo.Tag(ctx, plain(t.image.Root), t.image.tag()); err != nil {
			return fmt.Errorf("tag %s: %w; push again to set the tags that are missing", t.repo.Reference, err)
		}
		if _, err := fmt.Fprintf(stdout, "%s/%s:%s@%s %s\n", t.repo.Reference.Registry, t.repo.Reference.Repository, t.image.tag(), t.image.Root.Digest, state); err != nil {
			unsaid = fmt.Errorf("all tags are set, and not all could be printed: %w", err)
		}
	}
	return unsaid
}

// check asks for all tags before anything is sent.
func (d *destination) check(ctx context.Context, s *stage) ([]target, error) {
	if d.registry == "" {
		return nil, errors.New("give the registry: -registry HOST/PATH (REGISTRY= of make)")
	}
	if d.patience <= 0 {
		return nil, fmt.Errorf("-patience %s: want a positive duration such as 1m", d.patience)
	}
	var targets []target
	var taken []error
	for _, img := range s.images {
		repo, err := d.repository(img)
		if err != nil {
			return nil, err
		}
		there, err := repo.Resolve(ctx, img.tag())
		switch {
		case errors.Is(err, errdef.ErrNotFound):
			targets = append(targets, target{image: img, repo: repo})
		case err != nil:
			return nil, fmt.Errorf("ask registry %s for %s: %w; nothing was pushed%s", repo.Reference.Registry, repo.Reference, err, remedy(err))
		case there.Digest == img.Root.Digest:
			targets = append(targets, target{image: img, repo: repo, done: true})
		case d.replace:
			targets = append(targets, target{image: img, repo: repo})
		default:
			taken = append(taken, fmt.Errorf("tag %s is there already: %s, not %s", repo.Reference, there.Digest, img.Root.Digest))
		}
	}
	if len(taken) > 0 {
		return nil, fmt.Errorf("%w; nothing was pushed: publish under another version (make images ARGS='-tag ...'), or let the tags move with -replace (ARGS=-replace of make)", errors.Join(taken...))
	}
	return targets, nil
}

// remedy is what to do about a registry that cannot be asked, or nothing.
func remedy(err error) string {
	var response *errcode.ErrorResponse
	answered := errors.As(err, &response)
	switch {
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "; if an authority of your own signed its certificate, give that one's: SSL_CERT_FILE=ca.pem in the environment"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "; it speaks without TLS: -plain-http"
	case errors.Is(err, auth.ErrBasicCredentialNotFound), answered && (response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden):
		return "; log in with docker login or podman login, as somebody who may push"
	case answered && response.StatusCode == http.StatusBadRequest && response.URL != nil && response.URL.Scheme == "http":
		return "; perhaps it wants TLS: -plain-http=false"
	}
	return ""
}

func (d *destination) repository(img staged) (*remote.Repository, error) {
	repo, err := remote.NewRepository(strings.TrimSuffix(d.registry, "/") + "/" + img.component() + ":" + img.tag())
	if err != nil {
		return nil, fmt.Errorf("registry %q, want one such as registry.example:5000/sriovkit: %w", d.registry, err)
	}
	host, _, err := net.SplitHostPort(repo.Reference.Host())
	if err != nil {
		host = repo.Reference.Host()
	}
	ip := net.ParseIP(host)
	repo.PlainHTTP = host == "localhost" || ip != nil && ip.IsLoopback()
	if d.plainHTTP != nil {
		repo.PlainHTTP = *d.plainHTTP
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = d.patience
	client := &auth.Client{Client: &http.Client{Transport: retry.NewTransport(attentive{transport, d.patience})}, Cache: auth.NewCache()}
	store, err := logins()
	if err != nil {
		return nil, err
	}
	client.Credential = credentials.Credential(store)
	repo.Client = client
	return repo, nil
}

// logins are those of docker and podman; without any, none.
func logins() (credentials.Store, error) {
	docker, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("logins of docker, in config.json: %w", err)
	}
	file := os.Getenv("REGISTRY_AUTH_FILE")
	if runtimeDir := os.Getenv("XDG_RUNTIME_DIR"); file == "" && runtimeDir != "" {
		file = filepath.Join(runtimeDir, "containers", "auth.json")
	}
	if file == "" {
		return docker, nil
	}
	podman, err := credentials.NewStore(file, credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("logins of podman, %s: %w", file, err)
	}
	return credentials.NewStoreWithFallbacks(docker, podman), nil
}
