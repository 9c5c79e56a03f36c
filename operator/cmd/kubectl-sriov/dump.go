// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/sriovkit/sriovkit/operator/internal/support"
)

// dump writes the archive whole or not at all, readable by its owner alone.
func (c *command) dump(ctx context.Context, file string) error {
	inv, err := c.read(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	if file == "" {
		file = "sriov-dump-" + now.UTC().Format("20060102-150405") + ".tar.gz"
	}
	if _, err := os.Stat(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	} else if err == nil {
		return fmt.Errorf("file %s is there already: name another with -file", file)
	}
	bundle, err := support.Collect(ctx, c.client, inv, c.logs)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := bundle.Write(&archive, now); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".sriov-dump-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // renamed by then, unless something failed
	if _, err := f.Write(archive.Bytes()); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	c.unread(inv)
	fmt.Fprintf(c, "%s: %d files, secrets left out; look through it before you give it away\n", file, len(bundle))
	return nil
}

// logs reads the end of a log. The API server would leave out the end where it is asked for a
// number of bytes, so all of it is read: the kubelet begins a new file every 10 MiB.
func (c *command) logs(ctx context.Context, namespace, pod, container string) ([]byte, error) {
	return c.get(ctx, fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/log", namespace, pod), url.Values{"container": {container}}, support.LogEnd)
}

// get reads a path of the API server that is no object. The API server waits for a node for
// as long as it is waited for.
func (c *command) get(ctx context.Context, path string, query url.Values, read reader) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	client, err := rest.HTTPClientFor(c.config)
	if err != nil {
		return nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(c.config)
	if err != nil {
		return nil, err
	}
	at := base.JoinPath(path)
	at.RawQuery = query.Encode()
	return fetch(ctx, client, at.String(), read)
}

// answerLimit is more than the metrics of a node with 4 096 VFs.
const answerLimit = 64 << 20

// reader reads what there is to keep of an answer.
type reader func(io.Reader) ([]byte, error)

func whole(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, answerLimit)) }

// fetch follows no redirection: who answers in a pod's or node's place would be sent the token
// that the client adds to each request.
func fetch(ctx context.Context, client *http.Client, from string, read reader) ([]byte, error) {
	stay := *client
	stay.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	response, err := stay.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(response.Body, 1024))
		var status metav1.Status // what an API server has to say
		if json.Unmarshal(text, &status) == nil && status.Message != "" {
			text = []byte(status.Message)
		}
		return nil, errors.Join(fmt.Errorf("%s: %s", response.Status, text), err)
	}
	return read(response.Body)
}
