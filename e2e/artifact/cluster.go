// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sriovkit/sriovkit/e2e/image"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// Images that every node of a cluster has.
const (
	PauseImage   = "sriovkit.local/pause:v1"
	BusyboxImage = "sriovkit.local/busybox:v1" // its default command sleeps for ever
)

// BuildClusterDisk returns the path of a disk image with bin/ (kubelet, kubectl,
// containerd and its tools), cni/ (the reference plugins) and images.tar.
func BuildClusterDisk(ctx context.Context, cache *stage.Cache) (string, error) {
	if _, err := pinsOf(ctx, "containerd", ContainerdVariable); err != nil {
		return "", err // before minutes are spent on Kubernetes
	}
	kubernetes, err := BuildKubernetes(ctx, cache)
	if err != nil {
		return "", err
	}
	containerd, err := BuildContainerd(ctx, cache)
	if err != nil {
		return "", err
	}
	src, err := moduleDir(ctx)
	if err != nil {
		return "", err
	}
	sources, err := hashFiles(src, "cmd/pause/main.go", "image/image.go", "image/layer.go", "artifact/cluster.go")
	if err != nil {
		return "", err
	}
	dir, err := cache.Get(ctx, stage.Stage{
		Name:   "cluster",
		Inputs: []string{"1", kubernetes, containerd, sources},
		Build: func(ctx context.Context, b *stage.Build) error {
			root := filepath.Join(b.Dir, "root")
			for _, args := range [][]string{
				{"mkdir", root},
				{"cp", "-a", containerd + "/bin", containerd + "/cni", root},
				{"sh", "-c", fmt.Sprintf("cp -a %s/* %s", kubernetes, filepath.Join(root, "bin"))},
			} {
				if _, err := b.Run(ctx, stage.Command{Args: args}); err != nil {
					return err
				}
			}
			if err := writeBaseImages(ctx, b, src, filepath.Join(root, "images.tar")); err != nil {
				return err
			}
			if err := diskImage(ctx, b, filepath.Join(b.Dir, "cluster.img"), root, "1G"); err != nil {
				return err
			}
			return os.RemoveAll(root)
		},
	})
	return filepath.Join(dir, "cluster.img"), err
}

// BuildAll builds what nodes and clusters are made of. Nodes are made of downloads, which wait,
// while Kubernetes is compiled: what is missing on the mirror is known before that is done.
func BuildAll(ctx context.Context, cache *stage.Cache) error {
	group, both := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := BuildNode(both, cache, "")
		return err
	})
	group.Go(func() error {
		_, err := BuildKubernetes(both, cache)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	_, err := BuildClusterDisk(ctx, cache)
	return err
}

func writeBaseImages(ctx context.Context, b *stage.Build, src, to string) error {
	b.Step("writing container images")
	pause := filepath.Join(b.Dir, "pause")
	if err := goBuild(ctx, b, src, "-ldflags", "-s -w", "-o", pause, "./cmd/pause"); err != nil {
		return err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	applets, err := b.Run(ctx, stage.Command{Args: []string{busybox, "--list"}})
	if err != nil {
		return err
	}
	links := map[string]string{}
	for name := range strings.FieldsSeq(string(applets)) {
		if name != "busybox" {
			links["/bin/"+name] = "busybox"
		}
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	err = image.WriteArchive(f,
		image.Image{Name: PauseImage, Files: map[string]string{"/pause": pause}, Entrypoint: []string{"/pause"}, User: "65535:65535"},
		image.Image{Name: BusyboxImage, Files: map[string]string{"/bin/busybox": busybox}, Links: links,
			Cmd: []string{"/bin/sleep", "infinity"}, Env: []string{"PATH=/bin"}})
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Remove(pause)
}
