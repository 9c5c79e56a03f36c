// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// compare asks gorelease whether the version says what changed in the API.
func (r *Release) compare(ctx context.Context) error {
	if r.Gorelease == "" {
		fmt.Fprintf(r.Log, "%s: not compared, no gorelease given\n", r.tag())
		return nil
	}
	last, err := r.last(ctx)
	if err != nil {
		return err
	}
	base := "none"
	if last != "" {
		base = last
		if err := r.publish(ctx, module.Version{Path: Prefix + r.Module, Version: last}); err != nil {
			return err
		}
	}
	env, err := r.environment(ctx)
	if err != nil {
		return err
	}
	for known := map[string]bool{}; ; {
		out, err := run(ctx, filepath.Join(r.clone, r.Module), env, r.Gorelease, "-base="+base, "-version="+r.Version)
		if err == nil {
			fmt.Fprint(r.Log, out)
			return r.allows(out, last)
		}
		unlisted, why := refusedList(err.Error())
		if unlisted.Path == "" || known[unlisted.Path] {
			return fmt.Errorf("%w%s", err, out)
		}
		known[unlisted.Path] = true
		fmt.Fprintf(r.Log, "%s: whether %s is retracted is not known, its versions are not listed: %s\n", r.tag(), unlisted, why)
		if err := r.listOnly(unlisted); err != nil {
			return err
		}
	}
}

// allows is an error if an API was broken that a patch version has to keep. Before v1 gorelease
// leaves that to the module.
func (r *Release) allows(changes, last string) error {
	if !strings.Contains(changes, "## incompatible changes") || last == "" || semver.Prerelease(last) != "" || semver.MajorMinor(r.Version) != semver.MajorMinor(last) {
		return nil
	}
	return fmt.Errorf("%s is a patch of %s, which keeps the API, and there are incompatible changes: release it as the next minor version", r.Version, last)
}

// refusal is how the go command says that a module proxy does not list the versions of a
// module, though it has the one that is required: some proxies serve what is asked for only.
var refusal = regexp.MustCompile(`loading module retractions for (\S+)@(v\S+): (.*)`)

// refusedList is the module whose versions were not listed, and why; the zero Version if
// the text says nothing of the kind.
func refusedList(text string) (module.Version, string) {
	m := refusal.FindStringSubmatch(text)
	if m == nil {
		return module.Version{}, ""
	}
	return module.Version{Path: m[1], Version: m[2]}, m[3]
}

// listOnly has the proxy say that a module has this version alone. The version itself comes
// from where it came from before.
func (r *Release) listOnly(v module.Version) error {
	path, err := module.EscapePath(v.Path)
	if err != nil {
		return err
	}
	at := filepath.Join(r.proxy, path, "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(at, "list"), []byte(v.Version+"\n"), 0o644)
}
