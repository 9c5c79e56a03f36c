// SPDX-License-Identifier: Apache-2.0

package tiers

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// fuzzAttempts is how often a target is started that the fuzzer itself gave up.
const fuzzAttempts = 3

// lateEnd is how the fuzzer fails on a busy machine when its time is over while a worker
// is still at work (https://go.dev/issue/75804): no input is to blame.
var lateEnd = regexp.MustCompile(`(?m)^\s+context deadline exceeded$`)

// RunFuzz runs every fuzz target for a while, some beside each other, each with one worker.
// All are run; the error names those that failed.
func RunFuzz(ctx context.Context, checkout string, functions []Function, each time.Duration, beside int, out io.Writer) error {
	var group errgroup.Group
	group.SetLimit(beside)
	var mu sync.Mutex
	var failed []string
	for _, f := range functions {
		if f.Kind != Fuzz || f.Nested {
			continue
		}
		group.Go(func() error {
			text, err := fuzzOne(ctx, checkout, f, each)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, f.Package+" "+f.Name)
				fmt.Fprintf(out, "%s %s: %v\n%s", f.Package, f.Name, err, text)
			} else {
				fmt.Fprintf(out, "ok  \t%s\t%s\n", f.Package, f.Name)
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

func fuzzOne(ctx context.Context, checkout string, f Function, each time.Duration) (string, error) {
	for attempt := 1; ; attempt++ {
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+f.Name+"$", "-fuzztime", each.String(), "-parallel", "1", f.Package)
		cmd.Dir = checkout
		out, err := cmd.CombinedOutput()
		if err == nil || attempt == fuzzAttempts || !lateEnd.Match(out) || strings.Contains(string(out), "Failing input written") {
			return string(out), err
		}
	}
}
