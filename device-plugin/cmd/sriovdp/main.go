// SPDX-License-Identifier: Apache-2.0

// Command sriovdp offers SR-IOV virtual functions and other network hardware to
// kubelet as extended resources.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"syscall"

	"github.com/sriovkit/sriovkit/device-plugin/command"
	"github.com/sriovkit/sriovkit/device-plugin/inventory"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
	"github.com/sriovkit/sriovkit/device-plugin/plugin"
	"golang.org/x/sync/errgroup"
)

// version is set with -ldflags "-X main.version=v0.1.0".
var version = "devel"

func main() {
	os.Exit(command.Main("sriovdp", run, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT))
}

// run does what the flags say. It returns nil after ctx has ended.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	switch f.action() {
	case actionVersion:
		_, err := fmt.Fprintln(stdout, "sriovdp", version)
		return err
	case actionCheck:
		return check(f, stdout)
	case actionExplain:
		return explain(f, stdout, stderr)
	}
	log, closeLog, err := newLogger(f, stderr)
	if err != nil {
		return err
	}
	defer closeLog()
	// The heap is small and mostly garbage of the last look at the host; the
	// pages that it needed go back to the node soon.
	debug.SetGCPercent(gcPercent)
	log.Info("starting", "version", version, "config", f.options.ConfigFile)
	m := metrics.New(version)
	p, err := plugin.New(f.options, m, log)
	if err != nil {
		return err
	}
	m.Registry.MustRegister(p.Traffic())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.Run(ctx) })
	for _, s := range servers(f, m, p) {
		group.Go(func() error { return s.Run(ctx, log) })
	}
	return group.Wait()
}

// gcPercent trades a little CPU, of which there is plenty between two changes
// of the hardware, for memory on every node.
const gcPercent = 40

func check(f *flags, stdout io.Writer) error {
	cfg, err := inventory.LoadConfig(f.options.ConfigFile, f.options.ResourcePrefix)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s: good, %d pools\n", f.options.ConfigFile, len(cfg.Pools))
	return err
}
