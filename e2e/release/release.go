// SPDX-License-Identifier: Apache-2.0

// Package release makes what a release of a module is: a commit whose go.mod has no
// replace, and a tag on it. The commit is a child of HEAD on no branch: in the checkout,
// modules find each other by replace, whether or not there is a workspace; in what is
// tagged, by the versions of the siblings' tags.
//
// Everything happens in a private clone, and what a user will get from
// go install module/cmd/name@version is built from a directory laid out as a module proxy,
// filled from the tags. The checkout gets nothing but the tag, if asked for, and only when
// all went well.
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

// Release is that of one module at one version.
type Release struct {
	Checkout string // root of the working tree
	Module   string // its directory, e.g. "sriov-cni"
	Version  string // e.g. "v0.1.0"
	// Gorelease is the program that compares the API with the last release's; empty is not
	// to compare.
	Gorelease string
	// Tag leaves the tag in the checkout. Without it, the release is rehearsed only.
	Tag bool
	Log io.Writer // progress, a line a step

	work  string // scratch directory
	clone string // of the checkout, with the commit and the tag
	proxy string // directory laid out as a module proxy
}

// Run checks that the release can be made, makes it, and installs it as a user would. The
// error says which step failed and what to do about it; then nothing has changed.
func (r *Release) Run(ctx context.Context) (err error) {
	if r.work, err = os.MkdirTemp("", "sriovkit-release-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	r.clone, r.proxy = filepath.Join(r.work, "clone"), filepath.Join(r.work, "proxy")
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"check module and version", r.checkNames},
		{"check that the tag is new", r.checkTag},
		{"check the changelog", r.checkChangelog},
		{"check that everything is committed", r.checkClean},
		{"check the tags of the siblings it requires", r.checkSiblings},
		{"commit and tag, in a clone", r.commit},
		{"build what is tagged, without a workspace", r.build},
		{"compare the API with the last release", r.compare},
		{"install from a module proxy made of the tags", r.install},
	} {
		fmt.Fprintf(r.Log, "%s: %s\n", r.tag(), step.name)
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if !r.Tag {
		fmt.Fprintf(r.Log, "%s: rehearsed, nothing changed; to have the tag: make release MODULE=%s VERSION=%s TAG=1\n", r.tag(), r.Module, r.Version)
		return nil
	}
	ref := "refs/tags/" + r.tag()
	if _, err := r.git(ctx, r.Checkout, "fetch", "--quiet", "--no-tags", r.clone, ref+":"+ref); err != nil {
		return fmt.Errorf("take the tag over: %w", err)
	}
	fmt.Fprintf(r.Log, "%s: tagged; to publish: git push origin %[1]s\n", r.tag())
	return nil
}

func (r *Release) tag() string { return r.Module + "/" + r.Version }

// git runs git and returns its output.
func (r *Release) git(ctx context.Context, dir string, args ...string) (string, error) {
	return run(ctx, dir, nil, append([]string{"git"}, args...)...)
}

// has reports whether the checkout has a tag.
func (r *Release) has(ctx context.Context, tag string) (bool, error) {
	out, err := r.git(ctx, r.Checkout, "tag", "--list", tag)
	return strings.TrimSpace(out) == tag, err
}

func (r *Release) checkNames(context.Context) error {
	if !semver.IsValid(r.Version) || semver.Canonical(r.Version) != r.Version {
		return fmt.Errorf("VERSION is %q, want three numbers, such as v0.1.0", r.Version)
	}
	if major := semver.Major(r.Version); major != "v0" && major != "v1" {
		return fmt.Errorf("VERSION is %q: from v2 on the module path has to end in /%s", r.Version, major)
	}
	if r.Module == "" || r.Module != filepath.Base(r.Module) || r.Module[0] == '.' {
		return fmt.Errorf("MODULE is %q, want the name of a module's directory, such as sriov-cni", r.Module)
	}
	if _, err := os.Stat(filepath.Join(r.Checkout, r.Module, "go.mod")); err != nil {
		return fmt.Errorf("MODULE is %q: %w", r.Module, err)
	}
	return nil
}

func (r *Release) checkTag(ctx context.Context) error {
	there, err := r.has(ctx, r.tag())
	if err != nil {
		return err
	}
	last, err := r.last(ctx)
	if err != nil {
		return err
	}
	switch {
	case there:
		return fmt.Errorf("tag %s exists; a release is never changed, so choose a higher version", r.tag())
	case last != "" && semver.Compare(r.Version, last) < 0:
		return fmt.Errorf("VERSION is %s, and %s/%s is released; choose a higher version", r.Version, r.Module, last)
	}
	return nil
}

// last is the highest version of the module that is tagged, empty if none is.
func (r *Release) last(ctx context.Context) (string, error) {
	out, err := r.git(ctx, r.Checkout, "tag", "--list", r.Module+"/v*")
	if err != nil {
		return "", err
	}
	last := ""
	for tag := range strings.FieldsSeq(out) {
		if v := strings.TrimPrefix(tag, r.Module+"/"); semver.Compare(v, last) > 0 {
			last = v
		}
	}
	return last, nil
}

// checkChangelog wants something said under the version or, before the heading
// is renamed, under Unreleased.
func (r *Release) checkChangelog(context.Context) error {
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

func (r *Release) checkClean(ctx context.Context) error {
	out, err := r.git(ctx, r.Checkout, "status", "--porcelain")
	if err != nil {
		return err
	}
	if out != "" {
		return errors.New("a release is made of what is committed; commit or stash:\n" + out)
	}
	return nil
}
