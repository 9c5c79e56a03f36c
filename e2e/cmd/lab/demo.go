// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/e2e/demo"
)

func runDemo(ctx context.Context, args []string) error {
	d := demo.Demo{Out: os.Stdout, Supervisor: []string{"demo-supervisor"}}
	flags := newFlags("lab demo", "Install sriovkit on a new cluster with an emulated node and show pods that talk\nthrough VFs. The cluster stays until \"lab demo-down\"; Ctrl-C before the end takes\nit down.")
	flags.StringVar(&d.Picture, "picture", "", "write a picture of the output, as SVG, to this `file`")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	return d.Up(ctx)
}

func runDemoDown(_ context.Context, args []string) error {
	if err := parseFlags(newFlags("lab demo-down", "Take the demo down, with everything it started."), args); err != nil {
		return err
	}
	return demo.Down(os.Stdout)
}

// runDemoSupervisor is the background process of a demo, started by runDemo with
// the demo's directory, a descriptor for progress and one that holds the lock.
func runDemoSupervisor(ctx context.Context, args []string) error {
	const progress, lock = 3, 4
	if len(args) != 1 {
		return errors.New("lab demo-supervisor is started by lab demo")
	}
	for _, fd := range []int{progress, lock} { // the foreground waits until nobody holds them
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return errors.New("lab demo-supervisor is started by lab demo")
		}
	}
	return demo.Supervise(ctx, args[0], os.Stderr, os.NewFile(progress, "progress"), os.NewFile(lock, "lock"))
}

// newFlags are those of a command that takes no arguments.
func newFlags(name, does string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: %s\n\n%s\n", name, does)
		flags.PrintDefaults()
	}
	return flags
}

func parseFlags(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s takes no arguments, got %q", flags.Name(), flags.Args())
	}
	return nil
}
