// SPDX-License-Identifier: Apache-2.0

package tiers

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// fuzzAttempts is how often a target is started that the fuzzer itself gave up.
const fuzzAttempts = 3

// lateEnd is how the fuzzer fails on a busy machine when its time is over while a worker
// is still at work (https://go.dev/issue/75804): no input is to blame.
var lateEnd = regexp.MustCompile(`(?m)^\s+context deadline exceeded$`)

// fuzzing is a run of fuzz targets.
type fuzzing struct {
	checkout string
	cache    string // where the go command keeps the inputs that it found
	each     time.Duration
	grace    time.Duration
}

// RunFuzz runs every fuzz target for a while, some beside each other, each with one worker.
// All are run; the error names those that failed. The test programs stay in bin/fuzz of the
// checkout, because linking them again would take as long as the targets run. A target that
// takes longer by the grace has an input that does not end, for which the fuzzer itself
// would wait for ever.
func RunFuzz(ctx context.Context, checkout string, functions []Function, each, grace time.Duration, beside int, out io.Writer) error {
	cache, err := exec.CommandContext(ctx, "go", "env", "GOCACHE").Output()
	if err != nil {
		return fmt.Errorf("go env GOCACHE: %w", err)
	}
	run := fuzzing{checkout: checkout, cache: filepath.Join(strings.TrimSpace(string(cache)), "fuzz"), each: each, grace: grace}
	var group errgroup.Group
	group.SetLimit(beside)
	var mu sync.Mutex
	var failed []string
	for _, targets := range byPackage(functions) {
		group.Go(func() error {
			for _, f := range targets {
				text, err := run.target(ctx, f)
				mu.Lock()
				if err != nil {
					failed = append(failed, f.Package+" "+f.Name)
					fmt.Fprintf(out, "%s %s: %v\n%s", f.Package, f.Name, err, text)
				} else {
					fmt.Fprintf(out, "ok  \t%s\t%s\n", f.Package, f.Name)
				}
				mu.Unlock()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if len(failed) > 0 {
		slices.Sort(failed)
		return fmt.Errorf("fuzz targets failed: %s", strings.Join(failed, ", "))
	}
	return ctx.Err()
}

// byPackage groups the fuzz targets: those of one package share a program.
func byPackage(functions []Function) [][]Function {
	var groups [][]Function
	index := map[string]int{}
	for _, f := range functions {
		if f.Kind != Fuzz || f.Nested {
			continue
		}
		i, known := index[f.Package]
		if !known {
			i = len(groups)
			index[f.Package] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], f)
	}
	return groups
}

// target runs one target as go test -fuzz does, with a program that is linked only when
// something has changed.
func (r fuzzing) target(ctx context.Context, f Function) (string, error) {
	program := filepath.Join(r.checkout, "bin", "fuzz", strings.ReplaceAll(strings.TrimPrefix(f.Package, prefix), "/", "-")+".test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-fuzz", ".", "-o", program, f.Package)
	build.Dir = r.checkout
	if out, err := build.CombinedOutput(); err != nil {
		return string(out), err
	}
	for attempt := 1; ; attempt++ {
		limited, cancel := context.WithTimeoutCause(ctx, r.each+r.grace, fmt.Errorf("still running %s after its time was over", r.grace))
		cmd := exec.CommandContext(limited, program, "-test.run", "^$", "-test.fuzz", "^"+f.Name+"$", "-test.fuzztime", r.each.String(),
			"-test.fuzzminimizetime", "1x", // by default up to a minute for one input, all of a target's time
			"-test.parallel", "1", "-test.fuzzcachedir", filepath.Join(r.cache, filepath.FromSlash(f.Package)))
		cmd.Dir = filepath.Join(r.checkout, filepath.Dir(strings.Split(f.Position, ":")[0])) // where failing inputs are written
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // the workers as well
		out, err := cmd.CombinedOutput()
		if err != nil && limited.Err() != nil {
			err = context.Cause(limited)
		}
		cancel()
		if err == nil || attempt == fuzzAttempts || !lateEnd.Match(out) || strings.Contains(string(out), "Failing input written") {
			return string(out), err
		}
	}
}
