// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRunRefuses checks that bad input is refused before anything is built.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, run(t.Context(), nil), flag.ErrHelp)
	require.ErrorIs(t, run(t.Context(), []string{"-h"}), flag.ErrHelp)
	notArchive := filepath.Join(t.TempDir(), "x.tar")
	require.NoError(t, os.WriteFile(notArchive, []byte("no archive"), 0o600))
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"word":  {[]string{"no-such-command"}, `there is no command "no-such-command"; lab -h lists them`},
		"zero":  {[]string{"vm", "-pfs", "0"}, "-pfs is 0, want 1 to 16"},
		"MiB":   {[]string{"cluster", "-memory", "0"}, "-memory is 0, want 512 to 2800"},
		"more":  {[]string{"build", "frob"}, `lab build takes no arguments, got ["frob"]`},
		"tar":   {[]string{"cluster", "-import", notArchive}, "x.tar is no archive of images: not a tar file"},
		"tag":   {[]string{"images", "-tag", "bad:tag"}, `tag "bad:tag", want at most 128 letters`},
		"other": {[]string{"images", "-platforms", "windows/amd64"}, `platform "windows/amd64", want such as linux/amd64`},
		"PFs":   {[]string{"vm", "-pfs", "17"}, "PFs is 17, want 1 to 16"},
		"flag":  {[]string{"vm", "-no-such-flag"}, "flag provided but not defined"},
		"nodes": {[]string{"cluster", "-nodes", "3"}, "3 nodes, want 1 or 2"},
		"ports": {[]string{"cluster", "-pfs", "17"}, "node node1: PFs is 17, want 1 to 16"},
		"kern":  {[]string{"cluster", "-kernel", "5"}, `node node1: kernel is "5", want one of 6.1, `},
		"none":  {[]string{"cluster", "-nodes", "0"}, "0 nodes, want 1 or 2"},
		"image": {[]string{"images", "frob"}, `component "frob", want one such as sriov-cni`},
		"VFs":   {[]string{"capture", "-vfs", "8"}, "-vfs is 8, want 0 to 7"},
		"file":  {[]string{"capture", "-o", "/no/such/file"}, "-o: stat /no/such: no such file or directory"},
		"arch":  {[]string{"test-arch", "-arch", "vax"}, `architecture "vax": want arm64, ppc64le or s390x`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, run(t.Context(), tc.args), tc.want)
		})
	}
}
