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

// reportAnswers prints how long Allocate took.
func reportAnswers(out io.Writer, t task, all []answers) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	title := string(t.Stage)
	if t.RDMA {
		title += ", RDMA"
	}
	fmt.Fprintf(w, "\n%s: %s\tbinary\tcalls\tp50\tp99\tratio: p50\tp99\n", t.Host, title)
	for i, a := range all {
		fmt.Fprintf(w, "\t%s\t%d\t%s\t%s\t%s\t%s\n", t.Binaries[i].Label, len(a), contest.Millis(a.part(50)), contest.Millis(a.part(99)),
			contest.Ratio(all[0].part(50), a.part(50)), contest.Ratio(all[0].part(99), a.part(99)))
	}
	return w.Flush()
}

// reportDuties prints what binaries need once they serve.
func reportDuties(out io.Writer, t task, all []duty) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%s: watched by kubelet\tbinary\tRSS\tafter 10 rescans, scrapes\t%d net events a second\tpeak, %d routes\n",
		t.Host, 4*churnPairs, routeCount)
	for i, d := range all {
		rescans := "-"
		if d.Rescans > 0 {
			rescans = contest.MiB(d.Rescans)
		}
		fmt.Fprintf(w, "\t%s\t%s\t%s\t%.2f %% of a CPU\t%s\n", t.Binaries[i].Label, contest.MiB(d.Watched), rescans, d.Churn,
			contest.MiB(d.Routes))
	}
	return w.Flush()
}

// reportStops prints how long binaries take to end.
func reportStops(out io.Writer, t task, all []stops) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%s: SIGTERM to exit\tbinary\truns\tmedian\tlongest\n", t.Host)
	for i, s := range all {
		fmt.Fprintf(w, "\t%s\t%d\t%s\t%s\n", t.Binaries[i].Label, len(s), contest.Millis(s[len(s)/2]), contest.Millis(s[len(s)-1]))
	}
	return w.Flush()
}
