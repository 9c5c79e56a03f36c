// SPDX-License-Identifier: Apache-2.0

package release

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestVersionsNotListed has a module proxy that does not list the versions of a module: the
// release says that retractions of it are unknown, and is compared all the same.
func TestVersionsNotListed(t *testing.T) {
	t.Parallel()
	const says = "gorelease: go: loading module retractions for example.org/Quiet@v1.2.3: reading list: 403 Forbidden"
	for name, tc := range map[string]struct{ script, want string }{
		"refused once": {script: `list=${GOPROXY%%,*}; list=${list#file://}/example.org/!quiet/@v/list
			grep -qx v1.2.3 "$list" || { echo '` + says + `' >&2; exit 1; }
			echo compared`},
		"refused again": {script: "echo '" + says + "' >&2; exit 1", want: "403 Forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := checkout(t, nil)
			gorelease := filepath.Join(t.TempDir(), "gorelease")
			require.NoError(t, os.WriteFile(gorelease, []byte("#!/bin/sh\n"+tc.script+"\n"), 0o755))
			var log strings.Builder
			err := (&Release{Checkout: dir, Module: "lib", Version: "v0.1.1", Gorelease: gorelease, Log: &log}).Run(t.Context())
			require.Equal(t, 1, strings.Count(log.String(), "whether example.org/Quiet@v1.2.3 is retracted is not known, its versions are not listed: reading list: 403 Forbidden"))
			if tc.want != "" {
				require.ErrorContains(t, err, tc.want)
				return
			}
			require.NoError(t, err)
			require.Contains(t, log.String(), "compared\n")
		})
	}
}

// TestPatchKeepsTheAPI has a gorelease that reports a break and leaves it at that, as the real
// one does before v1.
func TestPatchKeepsTheAPI(t *testing.T) {
	t.Parallel()
	const broken = "# example.org/lib\n## incompatible changes\nOld: removed\n"
	for name, tc := range map[string]struct {
		version, last, changes string
		refused                bool
	}{
		"broken by a patch":       {"v0.2.1", "v0.2.0", broken, true},
		"broken by a minor":       {"v0.3.0", "v0.2.1", broken, false},
		"broken before it is out": {"v0.3.0", "v0.3.0-rc.1", broken, false},
		"added by a patch":        {"v0.2.1", "v0.2.0", "## compatible changes\nNew: added\n", false},
		"the first":               {"v0.1.0", "", broken, false},
	} {
		err := (&Release{Version: tc.version}).allows(tc.changes, tc.last)
		if tc.refused {
			require.ErrorContains(t, err, "v0.2.1 is a patch of v0.2.0, which keeps the API", name)
		} else {
			require.NoError(t, err, name)
		}
	}
}
