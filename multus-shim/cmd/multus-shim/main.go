// SPDX-License-Identifier: Apache-2.0

// One processor is enough (package oneproc), so the limits of the cgroup need not be looked
// up at the start of every process.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Multus-shim attaches a pod to several networks: a CNI plugin that container
// runtimes run, and the command that installs it on a node.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	cni "github.com/containernetworking/cni/pkg/version"

	"github.com/sriovkit/sriovkit/multus-shim/install"
	_ "github.com/sriovkit/sriovkit/multus-shim/internal/oneproc" // runs on one processor
	"github.com/sriovkit/sriovkit/multus-shim/plugin"
)

// Set with -ldflags "-X main.version=...".
var version = "devel"

const usage = `multus-shim attaches a pod to several networks.

As a CNI plugin it is run by the container runtime: CNI_COMMAND and friends in
the environment, the configuration on stdin, the result on stdout.

  multus-shim -version      print the version
  multus-shim install -h    put plugin, configuration and credentials on a node

CNI versions: 0.1.0 to 1.1.0. Configuration and annotations: see docs/configuration.md.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Getenv)
	stop()
	if err == nil {
		return
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintln(os.Stderr, "multus-shim:", err)
	}
	os.Exit(1)
}

var errReported = errors.New("reported on stdout")

func run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) error {
	if getenv("CNI_COMMAND") != "" {
		p := &plugin.Plugin{Getenv: getenv, Stdout: stdout, Stderr: stderr}
		if err := skel.PluginMainFuncsWithError(p.Funcs(ctx), cni.All, ""); err != nil {
			return errors.Join(errReported, err.Print())
		}
		return nil
	}
	if len(args) > 0 && args[0] == "install" {
		options, err := install.Parse(args[1:], stderr)
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		if err != nil {
			return err
		}
		return install.Run(ctx, options, getenv, slog.New(slog.NewJSONHandler(stderr, nil)))
	}
	flags := flag.NewFlagSet("multus-shim", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	printVersion := flags.Bool("version", false, "print the version")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case *printVersion:
		_, err := fmt.Fprintln(stdout, "multus-shim", version)
		return err
	}
	fmt.Fprint(stderr, usage)
	return errors.New("CNI_COMMAND is not set: this is run by a container runtime")
}
