// SPDX-License-Identifier: Apache-2.0

package libsriov

import (
	"cmp"
	"slices"
	"strings"
)

// RDMANode is a character device of an RDMA device.
type RDMANode struct {
	Kind string // "uverbs", "umad", "issm" or "ucm"
	Path string // on the host, e.g. "/dev/infiniband/uverbs0"
}

// rdmaClasses are where sysfs lists RDMA character devices, and their kinds.
var rdmaClasses = []struct {
	class string
	kinds []string
}{
	{"infiniband_cm", []string{"ucm"}},
	{"infiniband_mad", []string{"issm", "umad"}},
	{"infiniband_verbs", []string{"uverbs"}},
}

// RDMATable has the character devices of every RDMA device of a host. It is not changed
// once it was read.
type RDMATable map[string][]RDMANode // by RDMA device, ordered by kind and number

// RDMATable lists the character devices of all RDMA devices, with one read for each character
// device. It is for callers that need the nodes of many RDMA devices.
func (h *Host) RDMATable() (RDMATable, error) {
	table := RDMATable{}
	for _, c := range rdmaClasses {
		names, err := h.fs.Names("sys/class/" + c.class)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			i := slices.IndexFunc(c.kinds, func(kind string) bool { return isNumbered(name, kind) })
			if i < 0 {
				continue
			}
			owner, ok, err := h.fs.OptionalAttr("sys/class/" + c.class + "/" + name + "/ibdev")
			if err != nil {
				return nil, err
			}
			if ok {
				table[owner] = append(table[owner], RDMANode{Kind: c.kinds[i], Path: "/dev/infiniband/" + name})
			}
		}
	}
	return table, nil
}

// Nodes are the character devices of some RDMA devices: of each kind in turn, in the order
// of their names. /dev/infiniband/rdma_cm, which all share, is not among them.
func (t RDMATable) Nodes(devices ...string) []RDMANode {
	var nodes []RDMANode
	for _, d := range devices {
		nodes = append(nodes, t[d]...)
	}
	slices.SortStableFunc(nodes, func(a, b RDMANode) int {
		return cmp.Or(cmp.Compare(rank(a.Kind), rank(b.Kind)), cmp.Compare(a.Path, b.Path))
	})
	return nodes
}

func rank(kind string) int {
	return slices.Index([]string{"ucm", "issm", "umad", "uverbs"}, kind)
}

// RDMANodes lists the character devices of some RDMA devices as they are now. What known
// says, a table that was read before or nil, is checked with one read a node; only where
// that is wrong or says nothing are all listed. The table that was right comes back.
func (h *Host) RDMANodes(known RDMATable, devices ...string) ([]RDMANode, RDMATable, error) {
	for _, d := range devices {
		same, err := h.stillOwns(known[d], d)
		if err != nil {
			return nil, known, err
		}
		if !same {
			now, err := h.RDMATable()
			if err != nil {
				return nil, known, err
			}
			return now.Nodes(devices...), now, nil
		}
	}
	return known.Nodes(devices...), known, nil
}

// stillOwns reports whether there are nodes, and all belong to an RDMA device.
func (h *Host) stillOwns(nodes []RDMANode, device string) (bool, error) {
	for _, n := range nodes {
		class := "infiniband_mad"
		switch n.Kind {
		case "ucm":
			class = "infiniband_cm"
		case "uverbs":
			class = "infiniband_verbs"
		}
		name := n.Path[strings.LastIndexByte(n.Path, '/')+1:]
		owner, _, err := h.fs.OptionalAttr("sys/class/" + class + "/" + name + "/ibdev")
		if err != nil || owner != device {
			return false, err
		}
	}
	return len(nodes) > 0, nil
}
