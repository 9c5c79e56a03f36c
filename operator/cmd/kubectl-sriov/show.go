// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/sriovkit/sriovkit/libsriov/pciname"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/inventory"
)

// show prints all nodes, or those named.
func (c *command) show(ctx context.Context, names []string) error {
	inv, err := c.read(ctx)
	if err != nil {
		return err
	}
	views := inv.Views(pciname.Open())
	for _, name := range names {
		if why := inv.Unread["sriovnetworknodestates"]; why != "" {
			return fmt.Errorf("node %s: sriovnetworknodestates: %s", name, why)
		}
		if !slices.ContainsFunc(views, func(v inventory.NodeView) bool { return v.Node == name }) {
			return fmt.Errorf("node %s has no SriovNetworkNodeState in namespace %s: ask kubectl sriov why node/%s", name, inv.Namespace, name)
		}
	}
	if len(names) > 0 {
		views = slices.DeleteFunc(views, func(v inventory.NodeView) bool { return !slices.Contains(names, v.Node) })
	}
	if c.json {
		return c.printJSON(struct {
			Nodes  []inventory.NodeView `json:"nodes"`
			Unread map[string]string    `json:"unread,omitempty"`
		}{views, inv.Unread})
	}
	c.unread(inv)
	if len(views) == 0 {
		fmt.Fprintln(c, nobody(inv))
		return nil
	}
	nodes := [][]cell{headings("NODE", "SYNC", "DRAIN", "PF", "ADDRESS", "DRIVER", "VFS", "LINK", "DEVICE")}
	vfs := [][]cell{headings("NODE", "PF", "VF", "ADDRESS", "DRIVER", "VLAN", "RESOURCE", "USED BY")}
	seen := inv.Unread["pods"] == "" && inv.Unread["resourceclaims"] == ""
	for _, n := range views {
		nodes = append(nodes, nodeRows(n)...)
		vfs = append(vfs, vfRows(n, seen)...)
	}
	c.table(nodes)
	if len(vfs) > 1 {
		fmt.Fprintln(c)
		c.table(vfs)
	}
	for _, n := range views {
		if n.Sync != v1.SyncSucceeded {
			fmt.Fprintf(c, "\n%s: %s; ask kubectl sriov why node/%s\n", printable(n.Node), printable(cmp.Or(n.Why, n.Sync, "its daemon has not reported")), printable(n.Node))
		}
	}
	return nil
}

// nobody says why no node is shown, and what to do about it.
func nobody(inv *inventory.Inventory) string {
	switch {
	case !inv.Installed():
		return "SR-IOV is not installed here: the cluster does not know its kinds. Install the operator with them."
	case inv.Unread["sriovnetworknodestates"] != "":
		return "Whether any node takes part is not known. The ClusterRole sriov-network-view lets an account see it."
	}
	return fmt.Sprintf("No node takes part (namespace %s). Is the operator there, and does its SriovOperatorConfig select nodes?", inv.Namespace)
}

func headings(words ...string) []cell {
	row := plain(words...)
	for i := range row {
		row[i].colour = bold
	}
	return row
}

func nodeRows(n inventory.NodeView) [][]cell {
	sync := cell{n.Sync, map[string]string{v1.SyncSucceeded: green, v1.SyncFailed: red, v1.SyncInProgress: yellow}[n.Sync]}
	if len(n.PFs) == 0 {
		return [][]cell{{{n.Node, ""}, sync, {n.Drain, yellow}, {}, {}, {}, {}, {}, {}}}
	}
	var rows [][]cell
	for _, pf := range n.PFs {
		device := pf.Device
		if pf.Vendor != "" {
			device = pf.Vendor + " " + pf.Device
		}
		rows = append(rows, []cell{
			{n.Node, ""}, sync, {n.Drain, yellow}, {pf.Name, ""}, {pf.Address, ""}, {pf.Driver, ""},
			{fmt.Sprintf("%d of %d", pf.NumVFs, pf.TotalVFs), ""}, {pf.LinkSpeed, ""}, {device, ""},
		})
	}
	return rows
}

// vfRows are the VFs of a node. Unless all was seen who may have one, one without a holder
// is not one that nobody has.
func vfRows(n inventory.NodeView, seen bool) [][]cell {
	var rows [][]cell
	for _, pf := range n.PFs {
		for _, vf := range pf.VFs {
			vlan := ""
			if vf.VLAN != 0 {
				vlan = strconv.Itoa(vf.VLAN)
			}
			who := inventory.Who(vf.Holders)
			if who == "" && !seen {
				who = "?"
			}
			rows = append(rows, plain(n.Node, pf.Name, strconv.Itoa(vf.Index), vf.Address, vf.Driver, vlan, vf.Resource, who))
		}
	}
	return rows
}
