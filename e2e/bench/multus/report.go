// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/sriovkit/sriovkit/e2e/bench/contest"
)

// report prints a line per case and binary. "own" is the cost beyond that of
// the delegates, which are the same processes for all; the ratios compare the
// first binary with this one.
func report(out io.Writer, binaries []contest.Binary, delegate cost, rows []row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "one delegate alone: wall %s, CPU %s, RSS %s\n", contest.Millis(delegate.wall), contest.Millis(delegate.cpu), contest.MiB(delegate.rss))
	if err := contest.Sizes(w, binaries); err != nil {
		return err
	}
	fmt.Fprintln(w, "\ncase\tbinary\twall\tCPU\town wall\town CPU\tRSS\trequests\tratio: wall\town CPU\tRSS")
	for _, r := range rows {
		first := r.costs[0]
		for i, c := range r.costs {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", r.name, binaries[i].Label,
				contest.Millis(c.wall), contest.Millis(c.cpu), contest.Millis(own(c.wall, delegate.wall, r)), contest.Millis(own(c.cpu, delegate.cpu, r)), contest.MiB(c.rss), c.requests,
				contest.Ratio(first.wall, c.wall), contest.Ratio(own(first.cpu, delegate.cpu, r), own(c.cpu, delegate.cpu, r)), contest.Ratio(first.rss, c.rss))
		}
	}
	return w.Flush()
}

func own(total, delegate time.Duration, r row) time.Duration {
	return max(total-time.Duration(r.delegates)*delegate, 0)
}
