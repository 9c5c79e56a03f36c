// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/sriovkit/sriovkit/e2e/bench/contest"
)

// row is one host with the cost of each binary on it.
type row struct {
	host  shape
	costs []cost
}

// report prints a line per host and binary. Ratios compare the first binary
// with the line's: 0.02 means that the first needs a fiftieth.
func report(out io.Writer, binaries []contest.Binary, rows []row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if err := contest.Sizes(w, binaries); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nPFs x VFs x pools\tbinary\truns\tall served\tCPU\tRSS\tpeak\tsyscalls\tratio: wall\tCPU\tRSS\tsyscalls")
	for _, r := range rows {
		first := r.costs[0]
		for i, c := range r.costs {
			calls := "-"
			if c.Calls > 0 {
				calls = fmt.Sprint(c.Calls)
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.host, binaries[i].Label, c.Runs,
				contest.Millis(c.Wall), contest.Millis(c.CPU), contest.MiB(c.RSS), contest.MiB(c.Peak), calls,
				contest.Ratio(first.Wall, c.Wall), contest.Ratio(first.CPU, c.CPU), contest.Ratio(first.RSS, c.RSS), contest.Ratio(first.Calls, c.Calls))
		}
	}
	return w.Flush()
}
