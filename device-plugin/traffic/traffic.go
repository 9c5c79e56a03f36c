// SPDX-License-Identifier: Apache-2.0

// Package traffic exports what PFs count of their VFs, and which container has which
// device, read at each scrape. Names and labels are those of the SR-IOV network
// metrics exporter, so that dashboards keep working:
//
//	sriov_vf_tx_bytes * on(pciAddr) group_left(pod, namespace) sriov_kubepoddevice
package traffic

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
)

// Collector is a prometheus.Collector.
type Collector struct {
	Devices  func() []pool.Device // of the host
	Captured bool                 // of another host, whose counters are not here
	Holders  func(context.Context) ([]kubelet.Holder, error)
	// Resource names what a container has; ours is false for hardware of others.
	Resource func(kubelet.Holder) (name string, ours bool)
	Log      *slog.Logger
}

// counters names the metrics and where their values are.
var counters = []struct {
	desc  *prometheus.Desc
	value func(link.VFCounters) uint64
}{
	{vfDesc("rx_bytes", "Bytes that the VF received."), func(c link.VFCounters) uint64 { return c.RxBytes }},
	{vfDesc("tx_bytes", "Bytes that the VF sent."), func(c link.VFCounters) uint64 { return c.TxBytes }},
	{vfDesc("rx_packets", "Packets that the VF received."), func(c link.VFCounters) uint64 { return c.RxPackets }},
	{vfDesc("tx_packets", "Packets that the VF sent."), func(c link.VFCounters) uint64 { return c.TxPackets }},
	{vfDesc("rx_dropped", "Packets to the VF that were dropped."), func(c link.VFCounters) uint64 { return c.RxDropped }},
	{vfDesc("tx_dropped", "Packets from the VF that were dropped."), func(c link.VFCounters) uint64 { return c.TxDropped }},
	{vfDesc("rx_broadcast", "Broadcast packets that the VF received."), func(c link.VFCounters) uint64 { return c.RxBroadcast }},
	{vfDesc("rx_multicast", "Multicast packets that the VF received."), func(c link.VFCounters) uint64 { return c.RxMulticast }},
}

func vfDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("sriov_vf_"+name, help, []string{"pf", "vf", "pciAddr", "numa_node"}, nil)
}

var podDevice = prometheus.NewDesc("sriov_kubepoddevice", "A device that a container has; always 1.",
	[]string{"pciAddr", "dev_type", "pod", "namespace", "container"}, nil)

// Describe names every metric.
func (t Collector) Describe(out chan<- *prometheus.Desc) {
	for _, c := range counters {
		out <- c.desc
	}
	out <- podDevice
}

// Collect reads the counters of each PF in one request, and asks kubelet once.
// What cannot be read is left out of the scrape.
func (t Collector) Collect(out chan<- prometheus.Metric) {
	if err := t.collectVFs(out); err != nil {
		t.Log.Warn("VF counters", "err", err)
	}
	holders, err := t.Holders(context.Background())
	if err != nil && !errors.Is(err, kubelet.ErrNoPodResources) {
		t.Log.Warn("devices of pods", "err", err)
	}
	type key struct{ device, resource, pod, namespace, container string }
	seen := map[key]bool{} // one series twice would fail the whole scrape
	for _, h := range holders {
		as, ours := t.Resource(h)
		k := key{h.Device, as, h.Pod, h.Namespace, h.Container}
		if ours && !seen[k] {
			seen[k] = true
			out <- series(podDevice, 1, k.device, k.resource, k.pod, k.namespace, k.container)
		}
	}
}

func (t Collector) collectVFs(out chan<- prometheus.Metric) error {
	vfs := map[libsriov.Address][]*pool.Device{}
	if t.Captured {
		return nil
	}
	devices := t.Devices()
	for i := range devices {
		if d := &devices[i]; d.PF != nil && d.ID == d.Address.String() && len(d.PFNames) > 0 {
			vfs[*d.PF] = append(vfs[*d.PF], d)
		}
	}
	c, err := link.Open(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	var errs []error
	for _, list := range vfs {
		pf := list[0].PFNames[0]
		l, err := c.ByName(pf)
		var counted map[int]link.VFCounters
		if err == nil {
			counted, err = c.VFCounters(l.Index)
		}
		errs = append(errs, err)
		for _, d := range list {
			values, ok := counted[int(d.Number)]
			if !ok {
				continue
			}
			numa := ""
			if d.NUMANode >= 0 {
				numa = strconv.Itoa(d.NUMANode)
			}
			for _, x := range counters {
				out <- series(x.desc, float64(x.value(values)), pf, strconv.Itoa(int(d.Number)), d.ID, numa)
			}
		}
	}
	return errors.Join(errs...)
}

// series is one value. The kernel takes any bytes for an interface's name; a label that is no
// text would end the process.
func series(desc *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "\ufffd")
	}
	return prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value, labels...)
}
