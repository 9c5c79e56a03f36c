// SPDX-License-Identifier: Apache-2.0

// Package debian gets things from the Debian archive this machine is configured
// for: packages to install, packages to unpack, and the sources list a new root
// file system is made from.
//
// It works with package lists of its own, below the cache directory, and never
// changes anything in /etc/apt or /var/lib/apt. It needs root only to install.
package debian

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/e2e/stage"
)

// freshFor is how long package lists are used before they are fetched again.
// Within that time a warm run needs no network; after it the archive may have
// dropped the versions the lists name.
const freshFor = 7 * 24 * time.Hour

// listsRoom is more than package lists and what apt makes of them take.
const listsRoom = 1e9

// Archive is the Debian archive with this machine's mirror, release and, for
// newer versions of a few packages, the release's backports.
type Archive struct {
	Codename string // of the release, such as bookworm
	Sources  []Source

	target string // suite whose versions win; empty is apt's own choice
	dir    string // package lists and apt's own state
}

// Open reads the machine's apt configuration and makes sure that the package
// lists below cache are there and recent.
func Open(ctx context.Context, cache *stage.Cache) (*Archive, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return nil, err
	}
	codename, err := debianCodename(string(release))
	if err != nil {
		return nil, err
	}
	a := &Archive{Codename: codename, dir: filepath.Join(cache.Dir, "apt", codename)}
	files, err := output(ctx, "apt-get", "update", "--print-uris")
	if err != nil {
		return nil, fmt.Errorf("read the apt sources of this machine: %w", err)
	}
	if a.Sources, err = parseIndexFiles(files, codename); err != nil {
		return nil, err
	}
	return a, a.refresh(ctx, cache)
}

// refresh writes the sources and fetches the package lists, unless both are
// there already.
func (a *Archive) refresh(ctx context.Context, cache *stage.Cache) error {
	for _, dir := range []string{"lists/partial", "archives/partial", "empty"} {
		if err := os.MkdirAll(filepath.Join(a.dir, dir), 0o755); err != nil {
			return err
		}
	}
	name := filepath.Base(a.dir)
	unlock, err := cache.Lock(ctx, "apt-"+name)
	if err != nil {
		return err
	}
	defer unlock()

	list := SourcesList(append(a.Sources, a.backports()...))
	path, stamp := filepath.Join(a.dir, "sources.list"), filepath.Join(a.dir, "fetched")
	have, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	info, err := os.Stat(stamp)
	if err == nil && string(have) == list && time.Since(info.ModTime()) < freshFor {
		return nil
	}
	if err := cache.Room(listsRoom); err != nil { // apt would try for ever
		return err
	}
	if err := os.WriteFile(path, []byte(list), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(cache.Log, "apt: fetching package lists of %s\n", name)
	// A mirror that does not answer is a warning of apt's unless asked otherwise, and the
	// lists are empty.
	if _, err := output(ctx, "apt-get", append(a.options(), "-qq", "--error-on=any", "update")...); err != nil {
		if info == nil {
			return fmt.Errorf("fetch package lists of %s: %w; check the network, and that the mirror in /etc/apt has it", name, err)
		}
		fmt.Fprintf(cache.Log, "apt: no new package lists, using those of %s: %v\n", info.ModTime().Format(time.DateOnly), err)
		return nil
	}
	return os.WriteFile(stamp, nil, 0o644)
}

// backports is the backports suite on the mirror that serves the release itself.
func (a *Archive) backports() []Source {
	for _, s := range a.Sources {
		if s.Suite == a.Codename+"-backports" {
			return nil // configured already
		}
	}
	for _, s := range a.Sources {
		if s.Suite == a.Codename {
			s.Suite += "-backports"
			return []Source{s}
		}
	}
	return nil
}

// Release returns the suites of another release of Debian, the release itself and its
// backports, on the mirror that serves this machine's own.
func (a *Archive) Release(codename string) []Source {
	uri := a.Sources[0].URI
	return []Source{{uri, codename}, {uri, codename + "-backports"}}
}

// Other is the archive of another release of Debian on the same mirror, with its backports,
// whose versions win if asked for.
func (a *Archive) Other(ctx context.Context, cache *stage.Cache, codename string, backports bool) (*Archive, error) {
	if codename == a.Codename && !backports {
		return a, nil
	}
	o := &Archive{Codename: codename, Sources: a.Release(codename), dir: filepath.Join(cache.Dir, "apt", codename)}
	if backports {
		o.target = codename + "-backports"
		o.dir += "-backports"
	}
	return o, o.refresh(ctx, cache)
}

// options make apt use the lists of this archive and the installed packages of
// the machine.
func (a *Archive) options() []string {
	target := []string(nil)
	if a.target != "" {
		target = []string{"-o", "APT::Default-Release=" + a.target}
	}
	return append(target,
		"-o", "Dir::Etc::SourceList="+filepath.Join(a.dir, "sources.list"),
		"-o", "Dir::Etc::SourceParts="+filepath.Join(a.dir, "empty"),
		"-o", "Dir::State::Lists="+filepath.Join(a.dir, "lists"),
		"-o", "Dir::Cache="+a.dir,
		"-o", "Dir::Cache::pkgcache=pkgcache.bin",
		"-o", "DPkg::Lock::Timeout=300",
		"-o", "APT::Keep-Downloaded-Packages=false",
	)
}

// Proxies returns the machine's proxy settings as lines of apt.conf(5), for
// programs that make an apt configuration of their own.
func Proxies(ctx context.Context) ([]string, error) {
	dump, err := output(ctx, "apt-config", "dump", "Acquire::http::Proxy", "Acquire::https::Proxy")
	return strings.FieldsFunc(dump, func(r rune) bool { return r == '\n' }), err
}

// Current returns the package whose name begins with prefix that the first known one of
// the given metapackages depends on, such as linux-image-6.12.94+deb13-amd64 for
// linux-image-amd64.
func (a *Archive) Current(ctx context.Context, prefix string, metapackages ...string) (string, error) {
	for _, meta := range metapackages {
		out, err := output(ctx, "apt-cache", append(a.options(), "--no-recommends", "--no-suggests", "depends", meta)...)
		if err != nil {
			continue // not in this release
		}
		for line := range strings.Lines(out) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok && strings.HasPrefix(name, prefix) {
				return name, nil
			}
		}
	}
	return "", fmt.Errorf("none of %s is in the archive of %s; remove %s to fetch the lists again",
		strings.Join(metapackages, ", "), a.Codename, a.dir)
}

// Version returns the version of a package that apt would take.
func (a *Archive) Version(ctx context.Context, name string) (string, error) {
	out, err := output(ctx, "apt-cache", append(a.options(), "policy", name)...)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "Candidate: "); ok && v != "(none)" {
			return v, nil
		}
	}
	return "", fmt.Errorf("package %s is not in the archive of %s", name, a.Codename)
}

// Unpack downloads packages and extracts their files, without installing
// anything, below dir.
func (a *Archive) Unpack(ctx context.Context, b *stage.Build, dir string, packages ...string) error {
	debs := filepath.Join(b.Dir, "debs")
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return err
	}
	b.Step("downloading %s", strings.Join(packages, ", "))
	args := append([]string{"apt-get"}, append(a.options(), append([]string{"-q", "download"}, packages...)...)...)
	if _, err := b.Run(ctx, stage.Command{Dir: debs, Args: args}); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	b.Step("unpacking %d packages", len(files))
	for _, deb := range files {
		if _, err := b.Run(ctx, stage.Command{Args: []string{"dpkg-deb", "-x", deb, dir}}); err != nil {
			return err
		}
	}
	return os.RemoveAll(debs)
}
