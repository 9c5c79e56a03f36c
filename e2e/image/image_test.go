package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/image"
)

func TestWriteArchive(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(program, []byte("#!"), 0o755))
	img := image.Image{
		Name:       "example.org/demo:v1",
		Files:      map[string]string{"/usr/bin/program": program},
		Links:      map[string]string{"/usr/bin/alias": "program"},
		Entrypoint: []string{"/usr/bin/program"},
	}
	var first, second bytes.Buffer
	require.NoError(t, image.WriteArchive(&first, img, img))
	require.NoError(t, image.WriteArchive(&second, img, img))
	require.Equal(t, first.Bytes(), second.Bytes(), "same input, same bytes")

	files := untar(t, first.Bytes())
	var index struct {
		Manifests []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	require.NoError(t, json.Unmarshal(files["index.json"], &index))
	require.Len(t, index.Manifests, 2)
	require.Equal(t, "example.org/demo:v1", index.Manifests[0].Annotations["io.containerd.image.name"])

	var manifest struct{ Layers []struct{ Digest string } }
	require.NoError(t, json.Unmarshal(files["blobs/sha256/"+index.Manifests[0].Digest[len("sha256:"):]], &manifest))
	layer := untar(t, files["blobs/sha256/"+manifest.Layers[0].Digest[len("sha256:"):]])
	require.Equal(t, map[string][]byte{
		"tmp/": {}, "usr/": {}, "usr/bin/": {}, "usr/bin/program": []byte("#!"), "usr/bin/alias": {},
	}, layer)
}

func TestWriteArchiveRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		image image.Image
		want  string
	}{
		"no tag":        {image.Image{Name: "example.org:5000/demo"}, `name "example.org:5000/demo"`},
		"relative path": {image.Image{Name: "demo:v1", Links: map[string]string{"bin/sh": "x"}}, `path "bin/sh"`},
		"missing file":  {image.Image{Name: "demo:v1", Files: map[string]string{"/x": "/no/such/file"}}, "/no/such/file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, image.WriteArchive(io.Discard, tc.image), tc.want)
		})
	}
}

func untar(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	var content io.Reader = bytes.NewReader(data)
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		var err error
		content, err = gzip.NewReader(content)
		require.NoError(t, err)
	}
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		files[h.Name] = content
	}
}
