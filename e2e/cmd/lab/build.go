// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

func runBuild(ctx context.Context, args []string) error {
	if err := parseFlags(newFlags("lab build", "Build what nodes and clusters are made of: 9 to 12 minutes the first time, then nothing."), args); err != nil {
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
