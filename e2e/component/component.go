// SPDX-License-Identifier: Apache-2.0

// Package component knows the parts of sriovkit that run in a cluster: it builds
// their container images without a container daemon and installs them the way an
// administrator does, with kubectl.
package component

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sriovkit/sriovkit/e2e/image"
)

// Component is a part of sriovkit with an image of its own. The module's
// Dockerfile says the same for those who build with one.
type Component struct {
	Name       string            // of the image and of the module's directory
	Programs   map[string]string // path in the image to a package of the module
	Links      map[string]string // path in the image to the target of a symbolic link
	Entrypoint []string
	Cmd        []string
	User       string // numeric "uid:gid"; empty is root
}

// Registry is where the manifests say that the images are; Tag is the tag they ask for.
const (
	Registry = "docker.io/sriovkit"
	Tag      = "dev"
)

// All are the components, in the order in which they are built.
var All = []Component{
	{
		Name:       "sriov-cni",
		Programs:   map[string]string{"/usr/bin/sriov": "./cmd/sriov"},
		Links:      map[string]string{"/entrypoint.sh": "/usr/bin/sriov"},
		Entrypoint: []string{"/entrypoint.sh"},
	},
	{
		Name:       "device-plugin",
		Programs:   map[string]string{"/usr/bin/sriovdp": "./cmd/sriovdp", "/usr/bin/sriovdra": "./cmd/sriovdra"},
		Entrypoint: []string{"/usr/bin/sriovdp"},
	},
	{
		Name:       "multus-shim",
		Programs:   map[string]string{"/multus-shim": "./cmd/multus-shim"},
		Entrypoint: []string{"/multus-shim"},
		Cmd:        []string{"install"},
	},
	{
		Name:       "operator",
		Programs:   map[string]string{"/sriovkit-operator": "./cmd/sriovkit-operator"},
		Entrypoint: []string{"/sriovkit-operator"},
	},
}

// Reference is the name of the image with a tag.
func (c Component) Reference(tag string) string { return Registry + "/" + c.Name + ":" + tag }

// Archive is where Build puts the image.
func (c Component) Archive(dir string) string { return filepath.Join(dir, c.Name+".tar") }

// Checkout returns the root of the checkout that the working directory is in.
func Checkout(ctx context.Context) (string, error) {
	_ = os.Getenv("SRIOVKIT_SOURCES") // tests read what the test cache does not see
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/sriovkit/sriovkit/e2e").Output()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w; run inside one", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// Build compiles the components from a checkout, as static programs that report
// tag as their version, and writes an OCI archive of each into dir. The same
// sources give the same archives, whatever the commit.
func Build(ctx context.Context, checkout, dir, tag string, components ...Component) error {
	return BuildRelease(ctx, checkout, dir, Release{Tag: tag, Platforms: []string{here}}, components...)
}

// Release is what images say about themselves, and whom they are for.
type Release struct {
	Tag       string   // of the images, and the version that programs report
	Revision  string   // the commit that the sources are of; empty says nothing
	Platforms []string // such as linux/arm64; several make an image index
}

// Platforms are those that released images are for.
var Platforms = []string{"linux/amd64", "linux/arm64", "linux/ppc64le", "linux/s390x"}

// tags are what registries take.
var tags = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// Check is an error if there can be no such images.
func (r Release) Check() error {
	if !tags.MatchString(r.Tag) {
		return fmt.Errorf("tag %q, want at most 128 letters, digits, dots, dashes and underscores", r.Tag)
	}
	for _, p := range r.Platforms {
		if !strings.HasPrefix(p, "linux/") { // whether there is such a processor the compiler says at once
			return fmt.Errorf("platform %q, want such as %s", p, strings.Join(Platforms, ", "))
		}
	}
	return nil
}

// labels tell where an image comes from, in the words of
// https://github.com/opencontainers/image-spec/blob/main/annotations.md.
func (c Component) labels(r Release) map[string]string {
	labels := map[string]string{
		"org.opencontainers.image.title":    c.Name,
		"org.opencontainers.image.source":   "https://github.com/sriovkit/sriovkit",
		"org.opencontainers.image.licenses": "Apache-2.0",
		"org.opencontainers.image.version":  r.Tag,
	}
	if r.Revision != "" {
		labels["org.opencontainers.image.revision"] = r.Revision
	}
	return labels
}

// BuildRelease is Build for several platforms. The same sources of the same commit give
// the same archives.
func BuildRelease(ctx context.Context, checkout, dir string, r Release, components ...Component) error {
	if err := r.Check(); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2) // compilers run in parallel themselves
	for _, c := range components {
		group.Go(func() error {
			if err := c.build(ctx, checkout, dir, r); err != nil {
				return fmt.Errorf("image of %s: %w", c.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (c Component) build(ctx context.Context, checkout, dir string, r Release) error {
	programs, err := os.MkdirTemp(dir, "."+c.Name+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(programs)
	var images []image.Image
	for _, platform := range r.Platforms {
		img := image.Image{
			Name: c.Reference(r.Tag), Platform: platform, Files: map[string]string{}, Links: c.Links,
			Entrypoint: c.Entrypoint, Cmd: c.Cmd, User: c.User, Labels: c.labels(r),
		}
		for _, path := range slices.Sorted(maps.Keys(c.Programs)) {
			img.Files[path] = filepath.Join(programs, platform, filepath.Base(path))
			if err := Compile(ctx, checkout, c.Name, c.Programs[path], img.Files[path], platform, r.Tag); err != nil {
				return err
			}
		}
		images = append(images, img)
	}
	return image.Create(c.Archive(dir), func(w io.Writer) error { return image.WriteArchive(w, images...) })
}
