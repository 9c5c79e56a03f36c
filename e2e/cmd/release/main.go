// SPDX-License-Identifier: Apache-2.0

// The release command makes the release of a module: a commit without replace, its tag, and
// the proof that the tag can be installed. It leaves the tag only if asked to.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/sriovkit/sriovkit/e2e/release"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "release:", err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	r := release.Release{Log: os.Stderr}
	flags.StringVar(&r.Checkout, "checkout", "..", "root of the working tree")
	flags.StringVar(&r.Module, "module", "", "directory of the module, such as sriov-cni")
	flags.StringVar(&r.Version, "version", "", "version to release, such as v0.1.0")
	flags.StringVar(&r.Gorelease, "gorelease", "", "`path` of gorelease; empty is not to compare the API")
	flags.BoolVar(&r.Tag, "tag", false, "leave the tag in the checkout")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for _, path := range []*string{&r.Checkout, &r.Gorelease} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = absolute
	}
	return r.Run(ctx)
}
