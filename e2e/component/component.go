// Package component knows the parts of sriovkit that run in a cluster: it builds
// their container images without a container daemon and installs them the way an
// administrator does, with kubectl.
package component

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
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
		Programs:   map[string]string{"/usr/bin/sriovdp": "./cmd/sriovdp"},
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
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2) // compilers run in parallel themselves
	for _, c := range components {
		group.Go(func() error {
			if err := c.build(ctx, checkout, dir, tag); err != nil {
				return fmt.Errorf("image of %s: %w", c.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (c Component) build(ctx context.Context, checkout, dir, tag string) error {
	programs, err := os.MkdirTemp(dir, "."+c.Name+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(programs)
	img := image.Image{
		Name: c.Reference(tag), Files: map[string]string{}, Links: c.Links, Entrypoint: c.Entrypoint, Cmd: c.Cmd, User: c.User,
	}
	for _, path := range slices.Sorted(maps.Keys(c.Programs)) {
		img.Files[path] = filepath.Join(programs, filepath.Base(path))
		build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+tag, "-o", img.Files[path], c.Programs[path])
		build.Dir = filepath.Join(checkout, c.Name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", c.Programs[path], err, out)
		}
	}
	archive, err := os.CreateTemp(dir, "."+c.Name+"-*.tar")
	if err != nil {
		return err
	}
	defer os.Remove(archive.Name()) // renamed by then, unless something failed
	if err := image.WriteArchive(archive, img); err != nil {
		archive.Close()
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	if err := os.Chmod(archive.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(archive.Name(), c.Archive(dir))
}
