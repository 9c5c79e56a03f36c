// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/image"
)

func runImages(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("lab images", flag.ContinueOnError)
	dir := flags.String("o", "", "`directory` to write to; empty is bin/images in the checkout")
	tag := flags.String("tag", component.Tag, "tag of the images, and the version that the programs report")
	platforms := flags.String("platforms", strings.Join(component.Platforms, ","), "`platforms` to build for, separated by commas")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: lab images [flags] [COMPONENT ...]\n\nBuild the container images as OCI archives, without a container daemon: all of them or\nthose named, such as sriov-cni.\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	components, err := choose(flags.Args())
	if err != nil {
		return err
	}
	checkout, err := component.Checkout(ctx)
	if err != nil {
		return err
	}
	if *dir == "" {
		*dir = filepath.Join(checkout, "bin", "images")
	}
	revision, err := revision(ctx, checkout)
	if err != nil {
		return err
	}
	release := component.Release{Tag: *tag, Revision: revision, Platforms: strings.Split(*platforms, ",")}
	fmt.Printf("building for %s: minutes each when Go has nothing cached, and silent\n", strings.Join(release.Platforms, ", "))
	if err := component.BuildRelease(ctx, checkout, *dir, release, components...); err != nil {
		return err
	}
	for _, c := range components {
		info, err := os.Stat(c.Archive(*dir))
		if err != nil {
			return err
		}
		fmt.Printf("%-42s %s  %.1f MB\n", c.Reference(*tag), c.Archive(*dir), float64(info.Size())/1e6)
	}
	return digests(*dir, components)
}

// choose returns the components of the names; no names are all.
func choose(names []string) ([]component.Component, error) {
	if len(names) == 0 {
		return component.All, nil
	}
	var out []component.Component
	for _, name := range names {
		at := slices.IndexFunc(component.All, func(c component.Component) bool { return c.Name == name })
		if at < 0 {
			return nil, fmt.Errorf("component %q, want one such as sriov-cni", name)
		}
		out = append(out, component.All[at])
	}
	return out, nil
}

// digests prints what the images are, which the same sources have to give again.
func digests(dir string, components []component.Component) error {
	for _, c := range components {
		all, err := image.Digests(c.Archive(dir))
		if err != nil {
			return err
		}
		for _, d := range all {
			fmt.Printf("%-42s %-14s %s\n", d.Name, cmp.Or(d.Platform, "index"), d.Digest)
		}
	}
	return nil
}

// revision is the commit of a checkout, with "-dirty" if files differ from it.
func revision(ctx context.Context, checkout string) (string, error) {
	var out [2]string
	for i, args := range [][]string{{"rev-parse", "HEAD"}, {"status", "--porcelain"}} {
		git := exec.CommandContext(ctx, "git", append([]string{"-C", checkout}, args...)...)
		var said strings.Builder
		git.Stderr = &said
		text, err := git.Output()
		if err != nil {
			return "", fmt.Errorf("git %s in %s: %w: %s; images say which commit they are of", args[0], checkout, err, strings.TrimSpace(said.String()))
		}
		out[i] = strings.TrimSpace(string(text))
	}
	if out[1] != "" {
		return out[0] + "-dirty", nil
	}
	return out[0], nil
}
