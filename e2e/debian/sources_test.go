package debian

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseTargets(t *testing.T) {
	t.Parallel()
	const text = `http://mirror.example/debian/|bookworm|main|/keys/debian.gpg
http://mirror.example/debian/|bookworm|contrib|/keys/debian.gpg
http://mirror.example/debian/|bookworm-updates|main|/keys/debian.gpg
http://other.example/software/|stable|main|/keys/other.gpg
`
	sources, err := parseTargets(text, "bookworm")
	require.NoError(t, err)
	require.Equal(t, []Source{
		{URI: "http://mirror.example/debian/", Suite: "bookworm", Components: []string{"main", "contrib"}, SignedBy: "/keys/debian.gpg"},
		{URI: "http://mirror.example/debian/", Suite: "bookworm-updates", Components: []string{"main"}, SignedBy: "/keys/debian.gpg"},
	}, sources)
	require.Equal(t, "deb [signed-by=/keys/debian.gpg] http://mirror.example/debian/ bookworm main contrib\n", SourcesList(sources[:1]))

	a := &Archive{Codename: "bookworm", Sources: sources}
	require.Equal(t, "deb [signed-by=/keys/debian.gpg] http://mirror.example/debian/ bookworm-backports main contrib\n", SourcesList(a.backports()))
	a.Sources = append(a.Sources, Source{URI: "http://mirror.example/debian/", Suite: "bookworm-backports"})
	require.Empty(t, a.backports(), "the machine has them already")
}

func TestParseTargetsFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"no sources":     {"", "no source for Debian bookworm"},
		"other releases": {"http://mirror.example/debian/|trixie|main|\n", "no source for Debian bookworm"},
		"garbage":        {"E: something\n", "want four fields"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parseTargets(tc.text, "bookworm")
			require.ErrorContains(t, err, tc.want)
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

func FuzzParseTargets(f *testing.F) {
	f.Add("http://mirror.example/debian/|bookworm|main|/keys/debian.gpg\n")
	f.Add("|bookworm||\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		sources, err := parseTargets(text, "bookworm")
		if (err == nil) == (len(sources) == 0) {
			t.Fatalf("%d sources and error %v", len(sources), err)
		}
		for _, s := range sources {
			if !strings.HasPrefix(s.Suite, "bookworm") {
				t.Fatalf("suite %q is not of bookworm", s.Suite)
			}
		}
	})
}
