// The release command rehearses the release of a module: it checks what a tag
// needs, then installs the module's binaries as a user would, from a module
// proxy made of the checkout. It changes nothing and creates no tag.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

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
	r := release.Rehearsal{Log: os.Stderr}
	flags.StringVar(&r.Checkout, "checkout", "..", "root of the working tree")
	flags.StringVar(&r.Module, "module", "", "directory of the module, such as sriov-cni")
	flags.StringVar(&r.Version, "version", "", "version to rehearse, such as v0.1.0")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return r.Run(ctx)
}
