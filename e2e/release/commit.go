// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// identity is who commits and tags on a machine whose git knows nobody.
var identity = map[string]string{"user.name": "sriovkit release", "user.email": "release@sriovkit.invalid"}

// siblings are the modules of this repository that go.mod requires, by their directories.
func siblings(mod *modfile.File) map[string]string {
	found := map[string]string{}
	for _, req := range mod.Require {
		if name, ok := strings.CutPrefix(req.Mod.Path, Prefix); ok {
			found[name] = req.Mod.Version
		}
	}
	return found
}

func readMod(dir string) (*modfile.File, error) {
	file := filepath.Join(dir, "go.mod")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return modfile.Parse(file, text, nil)
}

// checkSiblings wants each sibling tagged at the version that go.mod requires, and since
// then unchanged: what was tested has to be what is shipped.
func (r *Release) checkSiblings(ctx context.Context) error {
	mod, err := readMod(filepath.Join(r.Checkout, r.Module))
	if err != nil {
		return err
	}
	required := siblings(mod)
	for _, name := range slices.Sorted(maps.Keys(required)) {
		tag := name + "/" + required[name]
		there, err := r.has(ctx, tag)
		switch {
		case err != nil:
			return err
		case !there:
			return fmt.Errorf("%s requires %s %s, and there is no tag %s; release it first: make release MODULE=%[2]s VERSION=%[3]s TAG=1", r.Module, name, required[name], tag)
		}
		changed, err := r.git(ctx, r.Checkout, "diff", "--name-only", tag, "HEAD", "--", name, ":(exclude)"+name+"/go.mod", ":(exclude)"+name+"/go.sum", ":(exclude)"+name+"/CHANGELOG.md")
		if err != nil {
			return err
		}
		if changed != "" {
			return fmt.Errorf("%s is tested with %s as it is now, which is not what %s has; release %[2]s at a higher version and require that:\n%s", r.Module, name, tag, changed)
		}
	}
	return nil
}

// commit makes the commit and its tag in a clone: go.mod without replace, and go.sum with
// the siblings' sums, which a build of the tag in a clone of the repository needs.
func (r *Release) commit(ctx context.Context) error {
	if _, err := r.git(ctx, r.work, "clone", "--quiet", "--shared", r.Checkout, r.clone); err != nil {
		return err
	}
	mod, err := readMod(filepath.Join(r.clone, r.Module))
	if err != nil {
		return err
	}
	for name, version := range siblings(mod) {
		if err := r.publish(ctx, module.Version{Path: Prefix + name, Version: version}); err != nil {
			return err
		}
	}
	if err := r.dropReplaces(ctx, mod); err != nil {
		return err
	}
	args := []string{}
	for key, value := range identity {
		if _, err := r.git(ctx, r.clone, "config", "--get", key); err != nil {
			args = append(args, "-c", key+"="+value)
		}
	}
	for _, command := range [][]string{
		{"add", r.Module},
		{"commit", "--quiet", "--allow-empty", "--no-verify", "-m", fmt.Sprintf("%s: release %s", r.Module, r.Version)},
		{"tag", "-a", "-m", r.Module + " " + r.Version, r.tag()},
	} {
		if _, err := r.git(ctx, r.clone, slices.Concat(args, command)...); err != nil {
			return err
		}
	}
	return nil
}

// dropReplaces writes the go.mod and go.sum of the commit.
func (r *Release) dropReplaces(ctx context.Context, mod *modfile.File) error {
	for _, replace := range slices.Clone(mod.Replace) {
		if !strings.HasPrefix(replace.Old.Path, Prefix) {
			return fmt.Errorf("%s replaces %s, which go install refuses; require a version that needs no replace", r.Module, replace.Old.Path)
		}
		if err := mod.DropReplace(replace.Old.Path, replace.Old.Version); err != nil {
			return err
		}
	}
	mod.Cleanup()
	text, err := mod.Format()
	if err != nil {
		return err
	}
	dir := filepath.Join(r.clone, r.Module)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), text, 0o644); err != nil {
		return err
	}
	env, err := r.environment(ctx)
	if err != nil {
		return err
	}
	_, err = run(ctx, dir, env, "go", "mod", "tidy")
	return err
}
