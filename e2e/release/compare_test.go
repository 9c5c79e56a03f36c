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
