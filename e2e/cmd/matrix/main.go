// SPDX-License-Identifier: Apache-2.0

// The matrix command runs node suites, and tests of clusters, on several kernels, NICs and
// versions, and writes the table of README.md from what passed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/matrix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "matrix:", err)
		}
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("matrix", flag.ContinueOnError)
	kernels := flags.String("kernels", strings.Join(artifact.Kernels(), ","), "kernels, by commas")
	profiles := flags.String("profiles", "", "NICs that the emulated ones are to behave like, by commas, such as iavf-ice,qede (see e2e/docs/nics.md), that the suites run on as well, with the default kernel")
	kubernetes := flags.String("kubernetes", "", "versions of Kubernetes, by commas, such as 1.36 or, with another containerd, 1.34+1.7, that the cluster tests run on as well, with the default kernel; each takes minutes to compile once")
	containerd := flags.String("containerd", "", "versions of containerd, by commas, such as 1.7, likewise")
	suites := flags.String("suites", "sriov-cni,libsriov,device-plugin,operator", "suites of tests in nodes, by commas; empty is none")
	cluster := flags.String("cluster", "^(TestClusterVFs|TestClusterNADs|TestClusterVFIO|TestClusterDrain|TestClusterReboot)$", "tests on clusters; empty is none")
	readme := flags.String("readme", "README.md", "`file` of the checkout with the table; empty prints the rows only")
	if err := flags.Parse(args); err != nil {
		return err
	}
	checkout, err := component.Checkout(ctx)
	if err != nil {
		return err
	}
	plan := matrix.Plan{Checkout: checkout, Suites: list(*suites), Cluster: *cluster, Out: os.Stdout}
	var rows []string
	var failures []error
	try := func(p matrix.Plan, c matrix.Combination) {
		if ctx.Err() != nil {
			return // the first failure says so
		}
		row, err := p.Run(ctx, c)
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", c, err))
		}
		if row.Node+row.Cluster == "" {
			return
		}
		rows = append(rows, row.String())
		if *readme != "" {
			failures = append(failures, matrix.Update(filepath.Join(checkout, *readme), row))
		}
	}
	var all []matrix.Combination
	for _, k := range list(*kernels) {
		all = append(all, matrix.Combination{Kernel: k})
	}
	for _, p := range list(*profiles) {
		all = append(all, matrix.Combination{Profile: p})
	}
	for _, v := range list(*kubernetes) {
		k, c, _ := strings.Cut(v, "+")
		all = append(all, matrix.Combination{Kubernetes: k, Containerd: c})
	}
	for _, v := range list(*containerd) {
		all = append(all, matrix.Combination{Containerd: v})
	}
	for _, c := range all { // the last is reached after hours
		if err := c.Check(ctx); err != nil {
			return err
		}
	}
	for _, c := range all {
		of := plan
		if c.Kernel == "" && c.Profile == "" {
			of.Suites = nil
		}
		if c.Profile != "" {
			of.Cluster = ""
		}
		try(of, c)
	}
	fmt.Print(strings.Join(rows, ""))
	return errors.Join(failures...)
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}
