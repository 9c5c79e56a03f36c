// SPDX-License-Identifier: Apache-2.0

// The versions command fails where a module of the workspace resolves other versions
// alone, as it is shipped, than in the workspace, as it is tested.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/versions"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "versions:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	checkout, err := component.Checkout(ctx)
	if err != nil {
		return err
	}
	faults, err := versions.Faults(ctx, checkout)
	if err != nil {
		return err
	}
	for _, f := range faults {
		fmt.Fprintln(os.Stderr, f)
	}
	if len(faults) > 0 {
		return fmt.Errorf("%d faults", len(faults))
	}
	return nil
}
