// SPDX-License-Identifier: Apache-2.0

// Package command is what the module's programs have in common: signals, exit codes and
// command lines.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2
)

// UsageError is a command line that cannot be meant; the program exits with 2.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

func (e UsageError) Unwrap() error { return e.Err }

// Main runs a program until it returns or a signal ends its context, and returns its exit
// code.
func Main(name string, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error, signals ...os.Signal) int {
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(os.Stderr, name+":", err)
	if errors.As(err, new(UsageError)) {
		return exitUsage
	}
	return exitFailure
}

// Parse reads a command line of flags alone. Its error is flag.ErrHelp or a UsageError.
func Parse(set *flag.FlagSet, args []string) error {
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return UsageError{err}
	}
	if set.NArg() > 0 {
		return UsageError{fmt.Errorf("unexpected argument %q; see -help", set.Arg(0))}
	}
	return nil
}
