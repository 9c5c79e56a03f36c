// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/sriovkit/sriovkit/device-plugin/inventory"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
)

// explain prints for every device the pool that takes it, or why each of them
// does not, and for every pool how many devices it gets.
func explain(f *flags, stdout, stderr io.Writer) error {
	f.logFormat, f.logLevel = "text", 0 // for people, and only what is wrong
	log, closeLog, err := newLogger(f, stderr)
	if err != nil {
		return err
	}
	defer closeLog()
	e, err := inventory.Explain(context.Background(), f.options.Options, log)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', 0)
	pools := e.Config.Pools
	for _, v := range e.Verdicts {
		taker := "-"
		for j, c := range v.Pools {
			if c == pool.Taken {
				taker = pools[j].Resource.String()
			}
		}
		fmt.Fprintf(w, "%s\t%s:%s\t%s\t%s\n", v.Device.ID, v.Device.Vendor, v.Device.Device, driver(v.Device), taker)
		if h, held := e.Held[v.Device.ID]; held {
			fmt.Fprintf(w, "\tin use %s\n", holder(h))
		}
		for j, line := range v.Explain(pools) {
			if v.Pools[j] != pool.Taken {
				fmt.Fprintf(w, "\tnot %s\n", line)
			}
		}
	}
	fmt.Fprintln(w)
	for j, p := range pools {
		fmt.Fprintf(w, "%s\t%d devices\n", p.Resource, len(e.Members[j]))
	}
	return w.Flush()
}

func driver(d *pool.Device) string {
	parts := []string{d.Driver}
	if d.Driver == "" {
		parts[0] = "no driver"
	}
	return strings.Join(append(parts, d.Netdevs...), " ")
}

// holder says: through which claim, or as which resource, a pod has a device.
func holder(h pool.Holder) string {
	if h.Claim != "" {
		return "through claim " + h.Claim
	}
	return "as " + h.Resource.String()
}
