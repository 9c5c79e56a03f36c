// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/stage"
)

// A machine with Debian's archive, two others that also have a suite "bookworm",
// and one of a different name.
const indexFiles = `'http://mirror.example/debian/dists/bookworm/InRelease' mirror.example_debian_dists_bookworm_InRelease 0 
'http://vendor.example/dists/bookworm/InRelease' vendor.example_dists_bookworm_InRelease 0 
'http://vendor.example/dists/bookworm/main/binary-amd64/Packages.xz' vendor.example_dists_bookworm_main_binary-amd64_Packages 0 
'http://containers.example/linux/debian/dists/bookworm/stable/binary-amd64/Packages.xz' containers.example_Packages 0 
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' mirror.example_debian_dists_bookworm_main_binary-amd64_Packages 0 
'http://mirror.example/debian/dists/bookworm/main/i18n/Translation-en.xz' mirror.example_debian_dists_bookworm_main_i18n_Translation-en 0 
'http://mirror.example/debian/dists/bookworm-updates/main/binary-amd64/Packages.xz' mirror.example_debian_Packages 0 
'http://security.example/debian-security/dists/bookworm-security/main/binary-amd64/Packages.xz' security.example_Packages 0 
'http://database.example/dists/bookworm-database/main/binary-amd64/Packages.xz' database.example_Packages 0 
`

func TestParseIndexFiles(t *testing.T) {
	t.Parallel()
	sources, err := parseIndexFiles(indexFiles, "bookworm")
	require.NoError(t, err)
	require.Equal(t, []Source{
		{"http://mirror.example/debian", "bookworm"},
		{"http://mirror.example/debian", "bookworm-updates"},
		{"http://security.example/debian-security", "bookworm-security"},
	}, sources)
	require.Regexp(t, `^deb (\[signed-by=\S+\] )?http://mirror.example/debian bookworm main\n$`, SourcesList(sources[:1]))

	a := &Archive{Codename: "bookworm", Sources: sources}
	backports := Source{"http://mirror.example/debian", "bookworm-backports"}
	require.Equal(t, []Source{backports}, a.backports())
	a.Sources = append(a.Sources, backports)
	require.Empty(t, a.backports(), "the machine has them already")
}

func TestParseIndexFilesFails(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no sources":     "",
		"other releases": "'http://mirror.example/debian/dists/trixie/main/binary-amd64/Packages.xz' x 0 \n",
		"updates only":   "'http://mirror.example/debian/dists/bookworm-updates/main/binary-amd64/Packages.xz' x 0 \n",
		"garbage":        "E: something\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parseIndexFiles(text, "bookworm")
			require.ErrorContains(t, err, "no source for component main of Debian bookworm")
		})
	}
}

func TestCodename(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want, err string }{
		"debian":   {"ID=debian\nVERSION_CODENAME=bookworm\n", "bookworm", ""},
		"quoted":   {"ID=\"debian\"\nVERSION_CODENAME='trixie'\n", "trixie", ""},
		"unstable": {"ID=debian\n", "", "names no VERSION_CODENAME"},
		"other":    {"ID=fedora\nVERSION_CODENAME=\"\"\n", "", `this is "fedora"`},
		"empty":    {"", "", `this is ""`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := debianCodename(tc.text)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

func FuzzParseIndexFiles(f *testing.F) {
	f.Add(indexFiles)
	f.Add("'/dists/bookworm/main/binary-amd64/Packages' ")
	f.Fuzz(func(t *testing.T, text string) {
		sources, err := parseIndexFiles(text, "bookworm")
		if (err == nil) == (len(sources) == 0) {
			t.Fatalf("%d sources and error %v", len(sources), err)
		}
		for _, s := range sources {
			if s.URI == "" || !strings.HasPrefix(s.Suite, "bookworm") {
				t.Fatalf("source %+v is not of bookworm", s)
			}
		}
	})
}

// A mirror without another release is named in the error, with what is missing, and the
// lists are asked for again the next time.
func TestReleaseThatTheMirrorLacks(t *testing.T) {
	t.Parallel()
	cache := &stage.Cache{Dir: t.TempDir(), Log: io.Discard}
	require.NoError(t, os.Mkdir(filepath.Join(cache.Dir, "locks"), 0o755))
	machine := &Archive{Codename: "bookworm", Sources: []Source{{URI: "file:" + t.TempDir(), Suite: "bookworm"}}}
	for range 2 {
		_, err := machine.Other(t.Context(), cache, "trixie", true)
		require.ErrorContains(t, err, "fetch package lists of trixie-backports")
		require.ErrorContains(t, err, "the mirror in /etc/apt has it")
	}
	same, err := machine.Other(t.Context(), cache, "bookworm", false)
	require.NoError(t, err)
	require.Same(t, machine, same)
}
