// SPDX-License-Identifier: Apache-2.0

package versions_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"

	"github.com/sriovkit/sriovkit/e2e/versions"
)

const house = "github.com/sriovkit/sriovkit/"

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
}

// proxy offers example.org/dep in two versions, and nothing else. It returns the go.sum
// for both.
func proxy(t *testing.T) (sums string) {
	t.Helper()
	dir := t.TempDir()
	for _, v := range []string{"v1.0.0", "v1.1.0"} {
		source := t.TempDir()
		mod := "module example.org/dep\n\ngo 1.20\n"
		write(t, source, map[string]string{"go.mod": mod, "dep.go": "package dep\n"})
		at := filepath.Join(dir, "example.org/dep/@v")
		write(t, at, map[string]string{v + ".mod": mod, v + ".info": `{"Version":"` + v + `"}`, "list": "v1.0.0\nv1.1.0\n"})
		archive, err := os.Create(filepath.Join(at, v+".zip"))
		require.NoError(t, err)
		require.NoError(t, zip.CreateFromDir(archive, module.Version{Path: "example.org/dep", Version: v}, source))
		require.NoError(t, archive.Close())
		content, err := dirhash.HashZip(archive.Name(), dirhash.Hash1)
		require.NoError(t, err)
		requirements, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return os.Open(filepath.Join(source, "go.mod")) })
		require.NoError(t, err)
		sums += "example.org/dep " + v + " " + content + "\nexample.org/dep " + v + "/go.mod " + requirements + "\n"
	}
	for name, value := range map[string]string{
		"GOPROXY": "file://" + dir, "GOSUMDB": "off", "GOFLAGS": "-modcacherw", "GOMODCACHE": t.TempDir(), "GOWORK": "", "GONOPROXY": "", "GOPRIVATE": "",
	} {
		t.Setenv(name, value)
	}
	return sums
}

func TestFaults(t *testing.T) {
	sums := proxy(t)
	const uses = "import _ \"example.org/dep\"\n"
	mod := func(name, rest string) string { return "module " + house + name + "\n\ngo 1.26.0\n\n" + rest }
	for name, tc := range map[string]struct {
		change map[string]string
		want   []string // in each fault, in this order
	}{
		"equal": {},
		"lower alone": {
			change: map[string]string{"a/go.mod": mod("a", "require example.org/dep v1.0.0\n")},
			want:   []string{"a: example.org/dep is v1.0.0 alone (GOWORK=off), as it is shipped, and v1.1.0 in the workspace, as it is tested; run make versions"},
		},
		"only a test needs it": {
			change: map[string]string{"a/go.mod": mod("a", "require example.org/dep v1.0.0\n"), "a/a.go": "package a\n", "a/a_test.go": "package a\n\n" + uses},
			want:   []string{"a: example.org/dep is v1.0.0 alone"},
		},
		"nobody needs it": {
			change: map[string]string{"a/go.mod": mod("a", ""), "a/a.go": "package a\n"},
		},
		"another Go": {
			change: map[string]string{"b/go.mod": "module " + house + "b\n\ngo 1.25.0\n\nrequire example.org/dep v1.1.0\n"},
			want:   []string{"b: go.mod says go 1.25.0, go.work 1.26.0"},
		},
		"mixed block": {
			change: map[string]string{"a/go.mod": mod("a", "require (\n\texample.org/dep v1.1.0\n\t"+house+"b v0.1.0 // indirect\n)\n\nreplace "+house+"b => ../b\n")},
			want:   []string{"a: go.mod line 7: direct and indirect requirements in one block; move " + house + "b"},
		},
		"two blocks of a kind": {
			change: map[string]string{"a/go.mod": mod("a", "require (\n\texample.org/dep v1.1.0\n)\n\nrequire "+house+"b v0.1.0\n\nreplace "+house+"b => ../b\n")},
			want:   []string{"a: go.mod has 2 blocks of direct and 0 of indirect requirements"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{
				"go.work":  "go 1.26.0\n\nuse (\n\t./a\n\t./b\n)\n",
				"a/go.mod": mod("a", "require example.org/dep v1.1.0\n"), "a/a.go": "package a\n\n" + uses,
				"b/go.mod": mod("b", "require example.org/dep v1.1.0\n"), "b/b.go": "package b\n\n" + uses,
				"a/go.sum": sums, "b/go.sum": sums,
			})
			write(t, dir, tc.change)
			faults, err := versions.Faults(t.Context(), dir)
			require.NoError(t, err)
			require.Len(t, faults, len(tc.want), "%s", strings.Join(faults, "\n"))
			for i, want := range tc.want {
				require.Contains(t, faults[i], want)
			}
		})
	}
}
