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

// publish lays out dir as a module proxy (https://go.dev/ref/mod#goproxy-protocol)
// that offers a module of the checkout at a version, and every sibling it
// requires at the version it requires.
func publish(ctx context.Context, checkout, dir, name, version string) error {
	text, err := os.ReadFile(filepath.Join(checkout, name, "go.mod"))
	if err != nil {
		return err
	}
	mod, err := modfile.Parse(name+"/go.mod", text, nil)
	if err != nil {
		return err
	}
	for _, req := range mod.Require {
		if sibling, ok := strings.CutPrefix(req.Mod.Path, Prefix); ok {
			if err := publish(ctx, checkout, dir, sibling, req.Mod.Version); err != nil {
				return fmt.Errorf("%s requires %s: %w", name, sibling, err)
			}
		}
	}
	return publishOne(ctx, checkout, dir, mod, module.Version{Path: Prefix + name, Version: version})
}

func publishOne(ctx context.Context, checkout, dir string, mod *modfile.File, v module.Version) error {
	for _, r := range append([]*modfile.Replace(nil), mod.Replace...) {
		if !strings.HasPrefix(r.Old.Path, Prefix) {
			return fmt.Errorf("%s replaces %s, which go install refuses", v.Path, r.Old.Path)
		}
		if err := mod.DropReplace(r.Old.Path, r.Old.Version); err != nil {
			return err
		}
	}
	mod.Cleanup()
	released, err := mod.Format()
	if err != nil {
		return err
	}
	source, err := os.MkdirTemp("", "sriovkit-module-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(source)
	if err := export(ctx, checkout, strings.TrimPrefix(v.Path, Prefix), source); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(source, "go.mod"), released, 0o644); err != nil {
		return err
	}
	at := filepath.Join(dir, v.Path, "@v")
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
	info, err := json.Marshal(map[string]any{"Version": v.Version, "Time": time.Unix(0, 0).UTC()})
	if err != nil {
		return err
	}
	for file, content := range map[string][]byte{v.Version + ".mod": released, v.Version + ".info": info, "list": []byte(v.Version + "\n")} {
		if err := os.WriteFile(filepath.Join(at, file), content, 0o644); err != nil {
			return err
		}
	}
	return archive.Close()
}

// export copies the committed files of a module, and the license, which the tag
// of a module in a folder takes from the root.
func export(ctx context.Context, checkout, name, to string) error {
	tar := filepath.Join(to, ".export.tar")
	if _, err := run(ctx, checkout, nil, "git", "archive", "--output", tar, "HEAD:"+name); err != nil {
		return err
	}
	if _, err := run(ctx, to, nil, "tar", "-xf", tar); err != nil {
		return err
	}
	if err := os.Remove(tar); err != nil {
		return err
	}
	license, err := os.ReadFile(filepath.Join(checkout, "LICENSE"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, "LICENSE"), license, 0o644)
}
