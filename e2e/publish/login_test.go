// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"oras.land/oras-go/v2/errdef"
)

// A login is found where docker and podman write it; a file of logins that cannot be read is
// said to be one, and not that there is no login.
func TestLogins(t *testing.T) {
	r := startRegistry(t)
	r.set(func(w http.ResponseWriter, q *http.Request) bool {
		if user, password, _ := q.BasicAuth(); user == "me" && password == "hunter2" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="a"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	ask := func() error {
		d := destination{registry: r.host + "/a", patience: time.Minute}
		repo, err := d.repository(staged{Name: "docker.io/a/first:v1"})
		if err != nil {
			return err
		}
		_, err = repo.Resolve(t.Context(), "v1")
		return err
	}
	login := []byte(`{"auths": {"` + r.host + `": {"auth": "bWU6aHVudGVyMg=="}}}`)
	write := func(dir, name string, text []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, text, 0o600))
		return path
	}
	reset := func() {
		t.Setenv("DOCKER_CONFIG", t.TempDir())
		t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
		t.Setenv("REGISTRY_AUTH_FILE", "")
	}
	reset()
	require.Contains(t, remedy(ask()), "log in with docker login or podman login")
	write(os.Getenv("DOCKER_CONFIG"), "config.json", login)
	require.ErrorIs(t, ask(), errdef.ErrNotFound, "of docker")
	reset()
	write(os.Getenv("XDG_RUNTIME_DIR"), "containers/auth.json", login)
	require.ErrorIs(t, ask(), errdef.ErrNotFound, "of podman")
	reset()
	t.Setenv("REGISTRY_AUTH_FILE", write(t.TempDir(), "a.json", login))
	require.ErrorIs(t, ask(), errdef.ErrNotFound, "of podman, elsewhere")
	reset()
	write(os.Getenv("DOCKER_CONFIG"), "config.json", []byte(`{"auths":`))
	require.ErrorContains(t, ask(), "config.json")
}
