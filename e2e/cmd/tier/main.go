// SPDX-License-Identifier: Apache-2.0

// The tier command runs what the go command cannot by itself: it judges the tests of a
// tier by what go test -json prints, and goes through all fuzz targets or benchmarks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/tiers"
)

const usage = `usage: tier COMMAND [flags]

	report  judge a run of go test -json, read from standard input
	fuzz    run every fuzz target for a while
	bench   run every benchmark
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "tier:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	commands := map[string]func(context.Context, string, []tiers.Function, []string) error{"report": report, "fuzz": fuzz, "bench": bench}
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprint(os.Stderr, usage)
		return flag.ErrHelp
	}
	checkout, err := component.Checkout(ctx)
	if err != nil {
		return err
	}
	functions, err := tiers.Load(ctx, checkout)
	if err != nil {
		return err
	}
	return commands[args[0]](ctx, checkout, functions, args[1:])
}

func report(_ context.Context, _ string, functions []tiers.Function, args []string) error {
	flags := flag.NewFlagSet("tier report", flag.ContinueOnError)
	r := tiers.Report{Functions: functions}
	tier := flags.String("tier", string(tiers.Host), "which tier ran: host, node, cluster or long")
	flags.BoolVar(&r.All, "all", false, "every test of the tier has to have run")
	flags.BoolVar(&r.Verbose, "v", false, "print all output at once")
	failures := flags.String("failures", "", "file to which what failed is appended, to be read after all else that runs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *failures != "" {
		if err := os.MkdirAll(filepath.Dir(*failures), 0o755); err != nil {
			return err
		}
		f, err := os.OpenFile(*failures, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		r.Failures = f
	}
	if r.Tier = tiers.Tier(*tier); !slices.Contains([]tiers.Tier{tiers.Host, tiers.Node, tiers.Cluster, tiers.Long}, r.Tier) {
		return fmt.Errorf("-tier %q, want host, node, cluster or long", *tier)
	}
	return r.Read(os.Stdin, os.Stdout)
}

// fuzzGrace is many times what a target needs to end on a busy machine.
const fuzzGrace = 5 * time.Minute

func fuzz(ctx context.Context, checkout string, functions []tiers.Function, args []string) error {
	flags := flag.NewFlagSet("tier fuzz", flag.ContinueOnError)
	each := flags.Duration("time", 5*time.Second, "how long each target runs")
	beside := flags.Int("p", runtime.GOMAXPROCS(0), "how many targets run at a time, each on one processor")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return tiers.RunFuzz(ctx, checkout, functions, *each, fuzzGrace, *beside, os.Stdout)
}

// bench runs the packages that have benchmarks, one after the other. Further arguments go
// to go test.
func bench(ctx context.Context, checkout string, functions []tiers.Function, args []string) error {
	var packages []string
	for _, f := range functions {
		if f.Kind == tiers.Benchmark && !f.Nested && !slices.Contains(packages, f.Package) {
			packages = append(packages, f.Package)
		}
	}
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"test", "-p", "1", "-run", "^$", "-bench", "."}, args, packages)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = checkout, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args[:6], " "), err)
	}
	return nil
}
