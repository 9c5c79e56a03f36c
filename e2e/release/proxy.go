// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// publish puts a tagged module into the proxy (https://go.dev/ref/mod#goproxy-protocol),
// and every sibling that it requires.
func (r *Release) publish(ctx context.Context, v module.Version) error {
	name := strings.TrimPrefix(v.Path, Prefix)
	tag := name + "/" + v.Version
	text, err := r.git(ctx, r.clone, "show", tag+":"+name+"/go.mod")
	if err != nil {
		return err
	}
	mod, err := modfile.Parse(tag+":go.mod", []byte(text), nil)
	if err != nil {
		return err
	}
	if len(mod.Replace) > 0 {
		return fmt.Errorf("tag %s has a replace of %s, which go install refuses", tag, mod.Replace[0].Old.Path)
	}
	for sibling, version := range siblings(mod) {
		if err := r.publish(ctx, module.Version{Path: Prefix + sibling, Version: version}); err != nil {
			return fmt.Errorf("%s requires %s: %w", tag, sibling, err)
		}
	}
	return r.publishOne(ctx, v, tag, []byte(text))
}

func (r *Release) publishOne(ctx context.Context, v module.Version, tag string, mod []byte) error {
	source, err := os.MkdirTemp(r.work, "module-")
	if err != nil {
		return err
	}
	if err := r.export(ctx, tag, strings.TrimPrefix(v.Path, Prefix), source); err != nil {
		return err
	}
	at := filepath.Join(r.proxy, v.Path, "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	archive, err := os.Create(filepath.Join(at, v.Version+".zip"))
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := zip.CreateFromDir(archive, v, source); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	info, err := json.Marshal(map[string]any{"Version": v.Version, "Time": time.Unix(0, 0).UTC()})
	if err != nil {
		return err
	}
	for file, content := range map[string][]byte{v.Version + ".mod": mod, v.Version + ".info": info} {
		if err := os.WriteFile(filepath.Join(at, file), content, 0o644); err != nil {
			return err
		}
	}
	return list(at)
}

// list writes which versions of a module the proxy has.
func list(at string) error {
	infos, err := filepath.Glob(filepath.Join(at, "*.info"))
	if err != nil {
		return err
	}
	var versions strings.Builder
	for _, file := range infos {
		fmt.Fprintln(&versions, strings.TrimSuffix(filepath.Base(file), ".info"))
	}
	return os.WriteFile(filepath.Join(at, "list"), []byte(versions.String()), 0o644)
}

// export copies the tagged files of a module, and the license, which a module in a folder
// takes from the root.
func (r *Release) export(ctx context.Context, tag, name, to string) error {
	archive := filepath.Join(to, ".export.tar")
	for _, what := range []string{tag + ":" + name, tag} {
		args := []string{"archive", "--output", archive, what}
		if what == tag {
			args = append(args, "LICENSE")
		}
		if _, err := r.git(ctx, r.clone, args...); err != nil {
			return err
		}
		if _, err := run(ctx, to, nil, "tar", "-xf", archive); err != nil {
			return err
		}
	}
	return os.Remove(archive)
}
