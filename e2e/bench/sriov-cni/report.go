package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// report is what was measured.
type report struct {
	Labels  []string
	Sizes   []int64
	Rows    []row
	Crossed []crossing
}

// row is one configuration; Results are in the order of the binaries.
type row struct {
	Name     string
	Commands []string
	Results  []result
}

// result is one binary in one configuration.
type result struct {
	Runs   map[string]*runs // by command
	Failed string           // what went wrong; "" if nothing
}

type runs struct {
	Costs    []cost
	Requests int   // netlink messages sent
	RSS      int64 // peak, in bytes
}

// crossing is one binary's DEL after another's ADD.
type crossing struct{ Add, Del, Left string }

func (r *result) of(command string) *runs {
	if r.Runs == nil {
		r.Runs = map[string]*runs{}
	}
	if r.Runs[command] == nil {
		r.Runs[command] = &runs{}
	}
	return r.Runs[command]
}

func (r *result) add(command string, c cost) {
	runs := r.of(command)
	runs.Costs = append(runs.Costs, c)
}

func median[T cmp.Ordered](costs []cost, of func(cost) T) T {
	var all []T
	for _, c := range costs {
		all = append(all, of(c))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func (r report) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "network\tcommand\tbinary\twall\tof first\tless start\tof first\tCPU\tof first\tRSS\tnetlink requests")
	start := make([]time.Duration, len(r.Labels)) // what a process costs that does nothing
	for _, row := range r.Rows {
		for _, command := range row.Commands {
			var wall, work, cpu time.Duration // of the first
			for i, label := range r.Labels {
				res := row.Results[i]
				runs := res.of(command)
				if res.Failed != "" || len(runs.Costs) == 0 {
					fmt.Fprintf(w, "%s\t%s\t%s\tfailed: %.100q\n", row.Name, command, label, res.Failed)
					continue
				}
				m := median(runs.Costs, func(c cost) time.Duration { return c.Wall })
				p := median(runs.Costs, func(c cost) time.Duration { return c.CPU })
				less, lessRatio := "", ""
				if command == idle {
					start[i] = m
				}
				if wall == 0 {
					wall, work, cpu = m, m-start[i], p
				}
				if command != idle {
					less = fmt.Sprintf("%.1f ms", (m-start[i]).Seconds()*1e3)
					lessRatio = fmt.Sprintf("%.2f", (m-start[i]).Seconds()/work.Seconds())
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%.1f ms\t%.2f\t%s\t%s\t%.1f ms\t%.2f\t%.1f MiB\t%d\n", row.Name, command, label,
					m.Seconds()*1e3, m.Seconds()/wall.Seconds(), less, lessRatio, p.Seconds()*1e3, p.Seconds()/cpu.Seconds(),
					float64(runs.RSS)/(1<<20), runs.Requests)
			}
		}
	}
	for i, size := range r.Sizes {
		fmt.Fprintf(w, "size of %s\t%d bytes\n", r.Labels[i], size)
	}
	for _, c := range r.Crossed {
		verdict := "VF as before, no state left"
		if c.Left != "" {
			verdict = c.Left
		}
		fmt.Fprintf(w, "ADD by %s, DEL by %s\t%s\n", c.Add, c.Del, verdict)
	}
	return w.Flush()
}
