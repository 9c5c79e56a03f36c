package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
)

// row is one host with the cost of each binary on it.
type row struct {
	host  shape
	costs []cost
}

// report prints a line per host and binary. Ratios compare the first binary
// with the line's: 0.02 means that the first needs a fiftieth.
func report(out io.Writer, binaries []binary, rows []row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, b := range binaries {
		info, err := os.Stat(b.Path)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s: %.1f MB on disk\n", b.Label, float64(info.Size())/1e6)
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
				ms(c.Wall), ms(c.CPU), mib(c.RSS), mib(c.Peak), calls,
				ratio(first.Wall, c.Wall), ratio(first.CPU, c.CPU), ratio(first.RSS, c.RSS), ratio(int64(first.Calls), int64(c.Calls)))
		}
	}
	return w.Flush()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }
func mib(kib int64) string      { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }

func ratio[T int64 | time.Duration](a, b T) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.4f", float64(a)/float64(b))
}
