// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Nobody reading what a push says is no reason to set half of the tags, or to leave the unpacked
// images behind.
func TestPushWithoutReader(t *testing.T) {
	t.Parallel()
	r, temporary := startRegistry(t), t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "push", "-images", images(t, commit), "-registry", r.host+"/sriovkit", "-unsigned")
	cmd.Env = append(os.Environ(), "PUBLISH_TEST_MAIN=1", "TMPDIR="+temporary)
	read, write, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, read.Close())
	cmd.Stdout = write
	var said strings.Builder
	cmd.Stderr = &said
	require.Error(t, cmd.Run())
	require.NoError(t, write.Close())
	require.Contains(t, said.String(), "all tags are set, and not all could be printed")
	require.Equal(t, []string{"first", "second"}, r.tagged(t))
	left, err := os.ReadDir(temporary)
	require.NoError(t, err)
	require.Empty(t, left)
}

// An archive that lacks a layer is found before anything is sent.
func TestLoadWithoutLayer(t *testing.T) {
	t.Parallel()
	bundle := filepath.Join(t.TempDir(), "bundle.tar")
	_, err := publish(t, "bundle", "-images", images(t, commit), "-o", bundle, "-unsigned")
	require.NoError(t, err)
	lacks := without(t, bundle, func(h *tar.Header) bool { return strings.HasPrefix(h.Name, "blobs/") && h.Size > 100<<10 })
	r := startRegistry(t)
	_, err = publish(t, "load", "-bundle", lacks, "-registry", r.host+"/sriovkit", "-unsigned")
	require.ErrorContains(t, err, "is not in the archive")
	require.Empty(t, r.written())
}

// without copies an archive without some of its files.
func without(t *testing.T, archive string, some func(*tar.Header) bool) string {
	t.Helper()
	from, err := os.Open(archive)
	require.NoError(t, err)
	defer from.Close()
	to, err := os.Create(filepath.Join(t.TempDir(), "lacks.tar"))
	require.NoError(t, err)
	out := tar.NewWriter(to)
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if !some(h) {
			require.NoError(t, out.WriteHeader(h))
			_, err = io.Copy(out, r)
			require.NoError(t, err)
		}
	}
	require.NoError(t, errors.Join(out.Close(), to.Close()))
	return to.Name()
}

// Two builds of one image, such as an old archive beside the new one, do not go under one tag by
// chance; the same image twice is one.
func TestTwoImagesOfOneName(t *testing.T) {
	t.Parallel()
	dir, r := images(t, commit), startRegistry(t)
	add := func(name, from string) {
		text, err := os.ReadFile(filepath.Join(from, "first.tar"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	args := []string{"push", "-images", dir, "-registry", r.host + "/sriovkit", "-unsigned"}
	add("again.tar", dir)
	out, err := publish(t, args...)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(out, "/first:v1@"), out)

	add("old.tar", images(t, "another commit"))
	r.set(nil)
	_, err = publish(t, args...)
	require.ErrorContains(t, err, "two images are called first:v1")
	require.Empty(t, r.written())
}

// What a hostile archive or registry says does not steer the terminal.
func TestErrorsSteerNoTerminal(t *testing.T) {
	t.Parallel()
	require.Equal(t, "image x/[31mred:v1\nis another's", printable("image x/\x1b[31mred\u009b:v1\nis\u202e another's"))
}
