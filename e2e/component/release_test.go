// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/image/imagetest"
)

// A release is an index whose images hold programs of the platform they are listed for, and
// say where they come from. Which platforms is told by the index, not by this test's machine.
func TestRelease(t *testing.T) {
	t.Parallel()
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	release := component.Release{Tag: "v1.2.3", Revision: strings.Repeat("a", 40), Platforms: component.Platforms}
	cni := component.All[0]
	dir := t.TempDir()
	require.NoError(t, component.BuildRelease(t.Context(), checkout, dir, release, cni))

	blobs := files(t, cni.Archive(dir))
	var top, index struct{ Manifests []descriptor }
	require.NoError(t, json.Unmarshal(blobs["index.json"], &top))
	require.Len(t, top.Manifests, 1)
	decode(t, blobs, top.Manifests[0].Digest, &index)
	machines := map[string]elf.Machine{}
	for _, m := range index.Manifests {
		var manifest struct {
			Config descriptor
			Layers []descriptor
		}
		decode(t, blobs, m.Digest, &manifest)
		var config struct {
			Config struct{ Labels map[string]string }
		}
		decode(t, blobs, manifest.Config.Digest, &config)
		require.Equal(t, map[string]string{
			"org.opencontainers.image.title": "sriov-cni", "org.opencontainers.image.version": "v1.2.3",
			"org.opencontainers.image.revision": release.Revision, "org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.source": "https://github.com/sriovkit/sriovkit",
		}, config.Config.Labels)
		program, err := elf.NewFile(bytes.NewReader(imagetest.Untar(t, blob(blobs, manifest.Layers[0].Digest))["usr/bin/sriov"]))
		require.NoError(t, err)
		require.Empty(t, program.Section(".interp"), "static")
		machines[m.Platform.OS+"/"+m.Platform.Architecture] = program.Machine
	}
	require.Equal(t, map[string]elf.Machine{
		"linux/amd64": elf.EM_X86_64, "linux/arm64": elf.EM_AARCH64, "linux/ppc64le": elf.EM_PPC64, "linux/s390x": elf.EM_S390,
	}, machines)

	again := t.TempDir()
	require.NoError(t, component.BuildRelease(t.Context(), checkout, again, release, cni))
	require.Equal(t, blobs["index.json"], files(t, cni.Archive(again))["index.json"], "same sources, same digests")
}

func TestReleaseRefuses(t *testing.T) {
	t.Parallel()
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	dir := t.TempDir()
	for want, release := range map[string]component.Release{
		"linux/vax":                      {Tag: "v1", Platforms: []string{"linux/vax"}},
		`platform "windows/amd64", want`: {Tag: "v1", Platforms: []string{"linux/amd64", "windows/amd64"}},
		`tag "bad:tag", want at most`:    {Tag: "bad:tag", Platforms: []string{"linux/amd64"}},
		`tag "", want at most`:           {Platforms: []string{"linux/amd64"}},
	} {
		err = component.BuildRelease(t.Context(), checkout, dir, release, component.All[0])
		require.ErrorContains(t, err, want)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "nothing half-done")
}

type descriptor struct {
	Digest   string
	Platform struct{ OS, Architecture string }
}

func blob(blobs map[string][]byte, digest string) []byte {
	return blobs["blobs/sha256/"+strings.TrimPrefix(digest, "sha256:")]
}

func decode(t *testing.T, blobs map[string][]byte, digest string, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(blob(blobs, digest), into), digest)
}

func files(t *testing.T, archive string) map[string][]byte {
	t.Helper()
	data, err := os.ReadFile(archive)
	require.NoError(t, err)
	return imagetest.Untar(t, data)
}
