package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sriovkit/sriovkit/e2e/component"
)

func runImages(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("lab images", flag.ContinueOnError)
	dir := flags.String("o", "", "`directory` to write to; empty is bin/images in the checkout")
	tag := flags.String("tag", component.Tag, "tag of the images, and the version that the programs report")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: lab images [flags]\n\nBuild the container images as OCI archives, without a container daemon.\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	checkout, err := component.Checkout(ctx)
	if err != nil {
		return err
	}
	if *dir == "" {
		*dir = filepath.Join(checkout, "bin", "images")
	}
	if err := component.Build(ctx, checkout, *dir, *tag, component.All...); err != nil {
		return err
	}
	for _, c := range component.All {
		info, err := os.Stat(c.Archive(*dir))
		if err != nil {
			return err
		}
		fmt.Printf("%-42s %s  %.1f MB\n", c.Reference(*tag), c.Archive(*dir), float64(info.Size())/1e6)
	}
	return nil
}
