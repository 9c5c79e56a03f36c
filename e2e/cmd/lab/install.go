// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/sriovkit/sriovkit/e2e/debian"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

func runInstall(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("lab install", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: lab install PACKAGE ...\n\nInstall Debian packages on this machine that are not there yet.\n")
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("no package named; such as lab install gcc libc6-dev")
	}
	cache, err := stage.Open(os.Stderr)
	if err != nil {
		return err
	}
	archive, err := debian.Open(ctx, cache)
	if err != nil {
		return err
	}
	return archive.Install(ctx, cache, flags.Args()...)
}
