// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/image"
	"github.com/sriovkit/sriovkit/e2e/image/imagetest"
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
	require.NoError(t, image.WriteArchive(&first, img))
	require.NoError(t, image.WriteArchive(&second, img))
	require.Equal(t, first.Bytes(), second.Bytes(), "same input, same bytes")

	files := imagetest.Untar(t, first.Bytes())
	var index struct {
		Manifests []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	require.NoError(t, json.Unmarshal(files["index.json"], &index))
	require.Len(t, index.Manifests, 1)
	require.Equal(t, "example.org/demo:v1", index.Manifests[0].Annotations["io.containerd.image.name"])

	var manifest struct{ Layers []struct{ Digest string } }
	require.NoError(t, json.Unmarshal(files["blobs/sha256/"+index.Manifests[0].Digest[len("sha256:"):]], &manifest))
	layer := imagetest.Untar(t, files["blobs/sha256/"+manifest.Layers[0].Digest[len("sha256:"):]])
	require.Equal(t, map[string][]byte{
		"tmp/": {}, "usr/": {}, "usr/bin/": {}, "usr/bin/program": []byte("#!"), "usr/bin/alias": {},
	}, layer)
}

// Images of one name are one index, with the image of each platform in it, whose
// configuration says the same platform: a runtime looks at both.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	img := image.Image{Name: "example.org/demo:v1", Labels: map[string]string{"org.opencontainers.image.version": "v1"}}
	arm, other := img, img
	arm.Platform, other.Platform = "linux/arm64", "linux/s390x"
	var first, second bytes.Buffer
	require.NoError(t, image.WriteArchive(&first, img, arm, other))
	require.NoError(t, image.WriteArchive(&second, img, arm, other))
	require.Equal(t, first.Bytes(), second.Bytes(), "same input, same bytes")

	files := imagetest.Untar(t, first.Bytes())
	type index struct {
		MediaType   string
		Annotations map[string]string
		Manifests   []struct {
			MediaType, Digest string
			Platform          struct{ OS, Architecture string }
		}
	}
	read := func(digest string, into any) {
		t.Helper()
		require.NoError(t, json.Unmarshal(files["blobs/sha256/"+strings.TrimPrefix(digest, "sha256:")], into))
	}
	var top, inner index
	require.NoError(t, json.Unmarshal(files["index.json"], &top))
	require.Len(t, top.Manifests, 1)
	read(top.Manifests[0].Digest, &inner)
	require.Equal(t, "application/vnd.oci.image.index.v1+json", inner.MediaType)
	require.Equal(t, img.Labels, inner.Annotations)
	var got []string
	for _, m := range inner.Manifests {
		var manifest struct{ Config struct{ Digest string } }
		read(m.Digest, &manifest)
		var config struct {
			OS, Architecture string
			Config           struct{ Labels map[string]string }
		}
		read(manifest.Config.Digest, &config)
		require.Equal(t, img.Labels, config.Config.Labels)
		require.Equal(t, m.Platform, struct{ OS, Architecture string }{config.OS, config.Architecture})
		got = append(got, m.Platform.OS+"/"+m.Platform.Architecture)
	}
	require.Equal(t, []string{"linux/amd64", "linux/arm64", "linux/s390x"}, got)

	archive := filepath.Join(t.TempDir(), "a.tar")
	require.NoError(t, os.WriteFile(archive, first.Bytes(), 0o600))
	listed, err := image.Digests(archive)
	require.NoError(t, err)
	want := []image.Digest{{Name: img.Name, Digest: top.Manifests[0].Digest}}
	for _, m := range inner.Manifests {
		want = append(want, image.Digest{Name: img.Name, Platform: m.Platform.OS + "/" + m.Platform.Architecture, Digest: m.Digest})
	}
	require.Equal(t, want, listed)
	require.NoError(t, os.WriteFile(archive, first.Bytes()[:1000], 0o600))
	_, err = image.Digests(archive)
	require.ErrorContains(t, err, archive)

	require.ErrorContains(t, image.WriteArchive(io.Discard, img, arm, arm), "platform linux/arm64: given twice")
	arm.Platform = "linux"
	require.ErrorContains(t, image.WriteArchive(io.Discard, arm), `platform "linux", want one such as`)
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
