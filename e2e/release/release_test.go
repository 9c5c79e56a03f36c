package release

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// checkout makes a committed working tree with a library and a command that
// requires it, as this repository's modules are.
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
	for name, content := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "first"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	return dir
}

func TestRehearsal(t *testing.T) {
	t.Parallel()
	dir := checkout(t, nil)
	for _, r := range []Rehearsal{{Module: "tool", Version: "v0.2.0"}, {Module: "lib", Version: "v0.1.0"}} {
		r.Checkout, r.Log = dir, t.Output()
		require.NoError(t, r.Run(t.Context()), r.Module)
	}
}

func TestRehearsalRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change          map[string]string
		module, version string
		dirty           bool
		want            string
	}{
		"no version":          {module: "tool", version: "0.2.0", want: "such as v0.1.0"},
		"short version":       {module: "tool", version: "v0.2", want: "such as v0.1.0"},
		"major 2":             {module: "tool", version: "v2.0.0", want: "has to end in /v2"},
		"no module":           {module: "nothing", version: "v0.2.0", want: `MODULE is "nothing"`},
		"module is a path":    {module: "../tool", version: "v0.2.0", want: "name of a module's directory"},
		"nothing said":        {module: "tool", version: "v0.1.0", want: "says nothing under"},
		"uncommitted":         {module: "tool", version: "v0.2.0", dirty: true, want: "commit or stash"},
		"does not compile":    {module: "tool", version: "v0.2.0", change: map[string]string{"lib/lib.go": "package lib\n"}, want: "undefined: lib.Hello"},
		"no version in it":    {module: "tool", version: "v0.2.0", change: map[string]string{"tool/cmd/greeting/main.go": "package main\n\nfunc main() { print(1) }\n"}, want: "want v0.2.0 in it"},
		"replaces a stranger": {module: "lib", version: "v0.1.0", change: map[string]string{"lib/go.mod": "module " + Prefix + "lib\n\ngo 1.26.0\n\nreplace example.org/x => ../x\n"}, want: "go install refuses"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := checkout(t, tc.change)
			if tc.dirty {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "lib/lib.go"), nil, 0o644))
			}
			err := Rehearsal{Checkout: dir, Module: tc.module, Version: tc.version, Log: io.Discard}.Run(t.Context())
			require.ErrorContains(t, err, tc.want)
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
