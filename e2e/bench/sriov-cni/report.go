// SPDX-License-Identifier: Apache-2.0

package main

import (
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
	Floor    *result // nil if there is none to measure
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

func (r *runs) wall() time.Duration {
	return median(r.Costs, func(c cost) time.Duration { return c.Wall })
}

func (r *runs) cpu() time.Duration {
	return median(r.Costs, func(c cost) time.Duration { return c.CPU })
}

func median(costs []cost, of func(cost) time.Duration) time.Duration {
	var all []time.Duration
	for _, c := range costs {
		all = append(all, of(c))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// beside is two cells: a time, and its ratio to the first binary's.
func beside(t, first time.Duration) string {
	return fmt.Sprintf("%.1f ms\t%.2f", t.Seconds()*1e3, t.Seconds()/first.Seconds())
}

func (r report) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "network\tcommand\tbinary\twall\tof first\tless start\tof first\tabove floor\tof first\tCPU\tof first\tRSS\tnetlink requests")
	start := make([]time.Duration, len(r.Labels)) // what a process costs that does nothing
	for _, row := range r.Rows {
		for _, command := range row.Commands {
			var first *runs
			var floor time.Duration // what the kernel takes
			if row.Floor != nil {
				floor = row.Floor.of(command).wall()
			}
			for i, label := range r.Labels {
				res := row.Results[i]
				runs := res.of(command)
				if res.Failed != "" || len(runs.Costs) == 0 {
					fmt.Fprintf(w, "%s\t%s\t%s\tfailed: %.100q\n", row.Name, command, label, res.Failed)
					continue
				}
				if command == idle {
					start[i] = runs.wall()
				}
				if first == nil {
					first = runs
				}
				less, above := "\t", "\t"
				if command != idle {
					less = beside(runs.wall()-start[i], first.wall()-start[0])
				}
				if floor != 0 {
					above = beside(runs.wall()-floor, first.wall()-floor)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f MiB\t%d\n", row.Name, command, label, beside(runs.wall(), first.wall()),
					less, above, beside(runs.cpu(), first.cpu()), float64(runs.RSS)/(1<<20), runs.Requests)
			}
			if floor != 0 && first != nil {
				runs := row.Floor.of(command)
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\t\t\t\t%s\t\t%d\n", row.Name, command, floorLabel,
					beside(floor, first.wall()), beside(runs.cpu(), first.cpu()), runs.Requests)
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
