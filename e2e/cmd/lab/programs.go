// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"

	"github.com/sriovkit/sriovkit/e2e/component"
)

func runPrograms(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("lab programs", flag.ContinueOnError)
	dir := flags.String("o", "", "`directory` to write to; empty is bin in the checkout")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: lab programs [flags] [NAME ...]\n\nBuild the components' programs as they are shipped, all of them or those named, such as sriov.\n\n")
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
		*dir = filepath.Join(checkout, "bin")
	}
	return component.Programs(ctx, checkout, *dir, flags.Args()...)
}
