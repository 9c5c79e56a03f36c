// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

func runBuild(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("lab build", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: lab build\n\nBuild what nodes and clusters are made of: 9 to 12 minutes the first time, then nothing.\n")
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	cache, err := stage.Open(os.Stderr)
	if err != nil {
		return err
	}
	if err := artifact.BuildAll(ctx, cache); err != nil {
		return err
	}
	if _, err := artifact.BuildQEMU(ctx, cache); err != nil {
		fmt.Fprintf(os.Stderr, "nodes will have no virtio ports with SR-IOV: %v\n", err)
	}
	return nil
}
