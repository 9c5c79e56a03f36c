package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
)

// report prints a line per case and binary. "own" is the cost beyond that of
// the delegates, which are the same processes for all; the ratios compare the
// first binary with this one.
func report(out io.Writer, binaries []binary, delegate cost, rows []row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "one delegate alone: wall %s, CPU %s, RSS %s\n", ms(delegate.wall), ms(delegate.cpu), mib(delegate.rss))
	for _, b := range binaries {
		info, err := os.Stat(b.path)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s: %.1f MB on disk\n", b.label, float64(info.Size())/1e6)
	}
	fmt.Fprintln(w, "\ncase\tbinary\twall\tCPU\town wall\town CPU\tRSS\trequests\tratio: wall\town CPU\tRSS")
	for _, r := range rows {
		first := r.costs[0]
		for i, c := range r.costs {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", r.name, binaries[i].label,
				ms(c.wall), ms(c.cpu), ms(own(c.wall, delegate.wall, r)), ms(own(c.cpu, delegate.cpu, r)), mib(c.rss), c.requests,
				ratio(first.wall, c.wall), ratio(own(first.cpu, delegate.cpu, r), own(c.cpu, delegate.cpu, r)), ratio(first.rss, c.rss))
		}
	}
	return w.Flush()
}

func own(total, delegate time.Duration, r row) time.Duration {
	return max(total-time.Duration(r.delegates)*delegate, 0)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }
func mib(kib int64) string      { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }

func ratio[T int64 | time.Duration](a, b T) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(a)/float64(b))
}
