// SPDX-License-Identifier: Apache-2.0

package release

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// checkout makes a committed working tree with a library, tagged lib/v0.1.0, and a command
// that requires it, as this repository's modules are.
func checkout(t *testing.T, change map[string]string) string {
	t.Helper()
	files := map[string]string{
		"LICENSE":                   "license\n",
		"lib/CHANGELOG.md":          "# Changelog\n\n## Unreleased\n\n- First.\n",
		"lib/go.mod":                "module " + Prefix + "lib\n\ngo 1.26.0\n",
		"lib/lib.go":                "package lib\n\nconst Hello = \"hello\"\n",
		"tool/CHANGELOG.md":         "# Changelog\n\n## v0.2.0\n\n- First.\n\n## v0.1.0\n",
		"tool/go.mod":               "module " + Prefix + "tool\n\ngo 1.26.0\n\nrequire " + Prefix + "lib v0.1.0\n\nreplace " + Prefix + "lib => ../lib\n",
		"tool/cmd/greeting/main.go": "package main\n\nimport (\n\t\"fmt\"\n\n\t\"" + Prefix + "lib\"\n)\n\nvar version = \"devel\"\n\nfunc main() { fmt.Println(lib.Hello, version) }\n",
	}
	for name, content := range change {
		files[name] = content
	}
	dir := t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")
	write(t, dir, files)
	commit(t, dir)
	git(t, dir, "tag", "lib/v0.1.0")
	return dir
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
}

func commit(t *testing.T, dir string) {
	t.Helper()
	git(t, dir, "add", "-A")
	git(t, dir, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "change")
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return strings.TrimSpace(string(out))
}

// state is everything that a release could change: files, branches, tags.
func state(t *testing.T, dir string) string {
	t.Helper()
	return git(t, dir, "status", "--porcelain") + "\n" + git(t, dir, "for-each-ref") + "\n" + git(t, dir, "rev-parse", "HEAD")
}

func TestRehearsal(t *testing.T) {
	t.Parallel()
	dir := checkout(t, nil)
	before := state(t, dir)
	for _, r := range []Release{{Module: "tool", Version: "v0.2.0"}, {Module: "tool", Version: "v0.2.0-rc.1", Gorelease: "/bin/true"}, {Module: "lib", Version: "v0.1.1"}} {
		if strings.HasSuffix(r.Version, "rc.1") {
			write(t, dir, map[string]string{"tool/CHANGELOG.md": "## Unreleased\n\n- First.\n"})
			commit(t, dir)
			before = state(t, dir)
		}
		r.Checkout, r.Log = dir, t.Output()
		require.NoError(t, r.Run(t.Context()), r.Module)
		require.Equal(t, before, state(t, dir), "nothing changed")
	}
}

// TestSecondRelease has a gorelease that refuses, as the real one does, a version that is
// listed already.
func TestSecondRelease(t *testing.T) {
	t.Parallel()
	dir := checkout(t, nil)
	gorelease := filepath.Join(t.TempDir(), "gorelease")
	require.NoError(t, os.WriteFile(gorelease, []byte(`#!/bin/sh -e
proxy=${GOPROXY%%,*}
list=${proxy#file://}/`+Prefix+`lib/@v/list
grep -qx "${1#-base=}" $list
! grep -qx "${2#-version=}" $list
`), 0o755))
	require.NoError(t, (&Release{Checkout: dir, Module: "lib", Version: "v0.1.1", Gorelease: gorelease, Log: t.Output()}).Run(t.Context()))
}

// TestTag releases the command and looks at what the tag has, beside the branch.
func TestTag(t *testing.T) {
	t.Parallel()
	dir := checkout(t, nil)
	head := git(t, dir, "rev-parse", "HEAD")
	var log strings.Builder
	require.NoError(t, (&Release{Checkout: dir, Module: "tool", Version: "v0.2.0", Tag: true, Log: &log}).Run(t.Context()))
	require.Contains(t, log.String(), "greeting -version: hello v0.2.0")
	require.Equal(t, head, git(t, dir, "rev-parse", "HEAD"), "the branch stays")
	require.Empty(t, git(t, dir, "status", "--porcelain"))
	require.Equal(t, head, git(t, dir, "rev-parse", "tool/v0.2.0^{commit}^"), "one commit on top of it")
	require.Equal(t, "tool/go.mod\ntool/go.sum", git(t, dir, "diff", "--name-only", "HEAD", "tool/v0.2.0"))
	mod := git(t, dir, "show", "tool/v0.2.0:tool/go.mod")
	require.NotContains(t, mod, "replace")
	require.Contains(t, mod, "require "+Prefix+"lib v0.1.0")
	require.Contains(t, git(t, dir, "show", "tool/v0.2.0:tool/go.sum"), Prefix+"lib v0.1.0 h1:")
	require.Contains(t, git(t, dir, "show", "HEAD:tool/go.mod"), "replace", "the checkout builds as before")
}

func TestRefused(t *testing.T) {
	t.Parallel()
	const tool = "tool/go.mod"
	mod := func(rest string) string { return "module " + Prefix + "tool\n\ngo 1.26.0\n\n" + rest }
	for name, tc := range map[string]struct {
		change, later   map[string]string // before and after the tag of the library
		module, version string
		dirty           bool
		gorelease       string
		want            string
	}{
		"no semver":           {module: "tool", version: "0.2.0", want: "such as v0.1.0"},
		"words":               {module: "tool", version: "latest", want: "such as v0.1.0"},
		"nothing":             {module: "tool", want: "such as v0.1.0"},
		"short version":       {module: "tool", version: "v0.2", want: "such as v0.1.0"},
		"build metadata":      {module: "tool", version: "v0.2.0+x", want: "such as v0.1.0"},
		"major 2":             {module: "tool", version: "v2.0.0", want: "has to end in /v2"},
		"no module":           {module: "nothing", version: "v0.2.0", want: `MODULE is "nothing"`},
		"no name":             {version: "v0.2.0", want: `MODULE is ""`},
		"module is a path":    {module: "../tool", version: "v0.2.0", want: "name of a module's directory"},
		"tag exists":          {module: "lib", version: "v0.1.0", want: "tag lib/v0.1.0 exists"},
		"lower than the last": {module: "lib", version: "v0.0.9", want: "lib/v0.1.0 is released; choose a higher version"},
		"nothing said":        {module: "tool", version: "v0.1.0", want: "says nothing under"},
		"uncommitted":         {module: "tool", version: "v0.2.0", dirty: true, want: "commit or stash"},
		"sibling without tag": {module: "tool", version: "v0.2.0", change: map[string]string{tool: mod("require " + Prefix + "lib v0.3.0\n\nreplace " + Prefix + "lib => ../lib\n")},
			want: "there is no tag lib/v0.3.0; release it first: make release MODULE=lib VERSION=v0.3.0 TAG=1"},
		"sibling changed":       {module: "tool", version: "v0.2.0", later: map[string]string{"lib/lib.go": "package lib\n\nconst Hello = \"bye\"\n"}, want: "which is not what lib/v0.1.0 has"},
		"sibling has a replace": {module: "tool", version: "v0.2.0", change: map[string]string{"lib/go.mod": "module " + Prefix + "lib\n\ngo 1.26.0\n\nreplace example.org/x => ../x\n"}, want: "tag lib/v0.1.0 has a replace of example.org/x"},
		"does not compile":      {module: "tool", version: "v0.2.0", change: map[string]string{"lib/lib.go": "package lib\n"}, want: "undefined: lib.Hello"},
		"no version in it": {module: "tool", version: "v0.2.0", change: map[string]string{tool: mod(""), "tool/cmd/greeting/main.go": "package main\n\nfunc main() { print(1) }\n"},
			want: "want v0.2.0 in it"},
		"replaces a stranger": {module: "lib", version: "v0.1.1", later: map[string]string{"lib/go.mod": "module " + Prefix + "lib\n\ngo 1.26.0\n\nreplace example.org/x => ../x\n"}, want: "go install refuses"},
		"API says no":         {module: "lib", version: "v0.1.1", gorelease: "/bin/false", want: "compare the API with the last release: /bin/false -base=v0.1.0 -version=v0.1.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := checkout(t, tc.change)
			if tc.later != nil {
				write(t, dir, tc.later)
				commit(t, dir)
			}
			if tc.dirty {
				write(t, dir, map[string]string{"lib/lib.go": ""})
			}
			before := state(t, dir)
			err := (&Release{Checkout: dir, Module: tc.module, Version: tc.version, Gorelease: tc.gorelease, Tag: true, Log: io.Discard}).Run(t.Context())
			require.ErrorContains(t, err, tc.want)
			require.Equal(t, before, state(t, dir), "nothing changed")
		})
	}
}

func TestEntry(t *testing.T) {
	t.Parallel()
	const text = "# Changelog\n\n## Unreleased\n\n## v0.1.0 (2026-11-24)\n\n- First.\n"
	assert.Empty(t, entry(text, "Unreleased"))
	assert.Equal(t, "- First.", entry(text, "v0.1.0"))
	assert.Empty(t, entry(text, "v0.1"))
}
