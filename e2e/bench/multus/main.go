// SPDX-License-Identifier: Apache-2.0

// Multus measures meta-plugin binaries beside each other: ADD with no, one and
// three further networks, and DEL with an API server that answers, answers
// late, or is down. The first binary is what the ratios refer to.
//
//	go run ./bench/multus -binary ours=/path/multus-shim -binary theirs=/path/multus
//
// It needs root, for a network namespace. All traffic stays on loopback.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sriovkit/sriovkit/e2e/netns"

	"github.com/sriovkit/sriovkit/e2e/bench/contest"
)

func main() { os.Exit(contest.Main("multus", run)) }

func run(ctx context.Context) error {
	var binaries []contest.Binary
	contest.Flag(&binaries)
	count := flag.Int("n", 31, "runs per case; medians are printed")
	annotations := flag.Bool("annotations", true, "the runtime passes the pod's annotations")
	slow := flag.Duration("slow", 200*time.Millisecond, "delay of the slow API server")
	flag.Parse()
	if len(binaries) == 0 {
		return errors.New("no -binary given")
	}
	dir, err := os.MkdirTemp("", "bench-multus-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b, err := newBench(ctx, dir, *count, *annotations)
	if err != nil {
		return err
	}
	defer b.close()
	rows, err := b.measure(ctx, binaries, *slow)
	if err != nil {
		return err
	}
	return report(os.Stdout, binaries, b.delegate, rows)
}

// bench is the environment that all binaries share.
type bench struct {
	dir         string
	count       int
	annotations bool
	api         *apiServer
	ns          *netns.Namespace
	up, down    string // kubeconfigs
	delegate    cost   // of one delegate process
}

func newBench(ctx context.Context, dir string, count int, annotations bool) (*bench, error) {
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		return nil, err
	}
	probe := filepath.Join(dir, "bin", "probe")
	build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", probe, "github.com/sriovkit/sriovkit/e2e/bench/multus/probe")
	build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build probe: %w", err)
	}
	if err := os.Link(probe, filepath.Join(dir, "bin", "delegate")); err != nil {
		return nil, err
	}
	b := &bench{dir: dir, count: count, annotations: annotations}
	b.api = newAPIServer(`{"cniVersion":"1.0.0","name":"extra","type":"delegate"}`)
	var err error
	if b.up, err = b.api.kubeconfig(dir, false); err != nil {
		return nil, err
	}
	if b.down, err = b.api.kubeconfig(dir, true); err != nil {
		return nil, err
	}
	b.ns, err = netns.New(ctx)
	return b, err
}

func (b *bench) close() {
	b.api.http.Close()
	_ = b.ns.Close()
}
