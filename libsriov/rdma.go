package libsriov

import (
	"slices"
)

// RDMANode is a character device of an RDMA device.
type RDMANode struct {
	Kind string // "uverbs", "umad", "issm" or "ucm"
	Path string // on the host, e.g. "/dev/infiniband/uverbs0"
}

// rdmaKinds are the classes that sysfs lists RDMA character devices in.
var rdmaKinds = []struct{ class, kind string }{
	{"infiniband_cm", "ucm"},
	{"infiniband_mad", "issm"},
	{"infiniband_mad", "umad"},
	{"infiniband_verbs", "uverbs"},
}

// RDMANodes lists the character devices of some RDMA devices, ordered by path.
// /dev/infiniband/rdma_cm, which all share, is not among them.
func (h *Host) RDMANodes(devices ...string) ([]RDMANode, error) {
	var nodes []RDMANode
	for _, k := range rdmaKinds {
		names, err := h.fs.Names("sys/class/" + k.class)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if !isNumbered(name, k.kind) {
				continue
			}
			owner, ok, err := h.fs.OptionalAttr("sys/class/" + k.class + "/" + name + "/ibdev")
			if err != nil {
				return nil, err
			}
			if ok && slices.Contains(devices, owner) {
				nodes = append(nodes, RDMANode{Kind: k.kind, Path: "/dev/infiniband/" + name})
			}
		}
	}
	return nodes, nil
}
