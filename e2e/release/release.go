// Package release rehearses the release of a module before any tag exists: what
// a user will get from `go install module/cmd/name@version` is built from a
// directory laid out as a module proxy, filled from the checkout.
//
// A rehearsal changes nothing in the checkout and creates no tag.
package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/semver"
)

// Prefix is what every module path begins with.
const Prefix = "github.com/sriovkit/sriovkit/"

// Rehearsal is the release of one module at one version.
type Rehearsal struct {
	Checkout string    // root of the working tree
	Module   string    // its directory, e.g. "sriov-cni"
	Version  string    // e.g. "v0.1.0"
	Log      io.Writer // progress, a line a step
}

// Run checks that the release could be tagged and that what the tag would give
// builds and reports its version. The error says which step failed and what to
// do about it.
func (r Rehearsal) Run(ctx context.Context) error {
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"check module and version", r.checkNames},
		{"check the changelog", r.checkChangelog},
		{"check that everything is committed", r.checkClean},
		{"install from a module proxy made of the checkout", r.install},
	} {
		fmt.Fprintf(r.Log, "%s %s: %s\n", r.Module, r.Version, step.name)
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	fmt.Fprintf(r.Log, "rehearsal passed; to release: git tag -s %s/%s && git push origin %[1]s/%[2]s\n", r.Module, r.Version)
	return nil
}

func (r Rehearsal) checkNames(context.Context) error {
	if !semver.IsValid(r.Version) || semver.Canonical(r.Version) != r.Version {
		return fmt.Errorf("VERSION is %q, want three numbers, such as v0.1.0", r.Version)
	}
	if major := semver.Major(r.Version); major != "v0" && major != "v1" {
		return fmt.Errorf("VERSION is %q: from v2 on the module path has to end in /%s", r.Version, major)
	}
	if r.Module != filepath.Base(r.Module) {
		return fmt.Errorf("MODULE is %q, want the name of a module's directory, such as sriov-cni", r.Module)
	}
	if _, err := os.Stat(filepath.Join(r.Checkout, r.Module, "go.mod")); err != nil {
		return fmt.Errorf("MODULE is %q: %w", r.Module, err)
	}
	return nil
}

// checkChangelog wants something said under the version or, before the heading
// is renamed, under Unreleased.
func (r Rehearsal) checkChangelog(context.Context) error {
	text, err := os.ReadFile(filepath.Join(r.Checkout, r.Module, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	if entry(string(text), r.Version) == "" && entry(string(text), "Unreleased") == "" {
		return fmt.Errorf("%s/CHANGELOG.md says nothing under %q or %q; write what changed", r.Module, "## "+r.Version, "## Unreleased")
	}
	return nil
}

// entry is the text under a second-level heading of a changelog.
func entry(changelog, heading string) string {
	var text strings.Builder
	inside := false
	for line := range strings.Lines(changelog) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			fields := strings.Fields(title)
			inside = len(fields) > 0 && fields[0] == heading
			continue
		}
		if inside {
			text.WriteString(line)
		}
	}
	return strings.TrimSpace(text.String())
}

func (r Rehearsal) checkClean(ctx context.Context) error {
	out, err := run(ctx, r.Checkout, nil, "git", "status", "--porcelain")
	if err != nil {
		return err
	}
	if out != "" {
		return errors.New("a release is made of what is committed; commit or stash:\n" + out)
	}
	return nil
}
