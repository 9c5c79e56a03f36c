// SPDX-License-Identifier: Apache-2.0

// Package contest is what the benchmarks share that measure binaries beside each
// other: who takes part, and how figures are put together and printed.
package contest

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Binary is one contestant. The first is what ratios refer to.
type Binary struct{ Label, Path string }

// Main runs a benchmark until it is done or interrupted, and returns the exit code.
func Main(name string, run func(context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench/%s: %v\n", name, err)
		return 1
	}
	return 0
}

// Flag adds a repeatable flag, -binary label=path, to the command line.
func Flag(binaries *[]Binary) {
	flag.Func("binary", "`label=path` of a binary, repeatable", func(s string) error {
		label, path, ok := strings.Cut(s, "=")
		if !ok || label == "" || path == "" || strings.ContainsAny(label, "/ ") {
			return fmt.Errorf("%q: want label=path, without slash or space in the label", s)
		}
		path, err := filepath.Abs(path)
		*binaries = append(*binaries, Binary{label, path})
		return err
	})
}

// Sizes prints how much each binary takes on disk.
func Sizes(out io.Writer, binaries []Binary) error {
	for _, b := range binaries {
		info, err := os.Stat(b.Path)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %.2f MB on disk\n", b.Label, float64(info.Size())/1e6)
	}
	return nil
}

// Median is that of one measure over all runs; there is at least one.
func Median[R any, T cmp.Ordered](runs []R, measure func(R) T) T {
	all := make([]T, len(runs))
	for i, r := range runs {
		all[i] = measure(r)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// Ratio is what the first needs, as a part of what the other needs.
func Ratio[T int | int64 | time.Duration](first, other T) string {
	switch r := float64(first) / float64(other); {
	case other == 0:
		return "-"
	case r < 0.1:
		return fmt.Sprintf("%.4f", r)
	default:
		return fmt.Sprintf("%.2f", r)
	}
}

// Millis prints a duration.
func Millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

// MiB prints an amount of memory given in KiB, as getrusage(2) and /proc do.
func MiB(kib int64) string { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }
