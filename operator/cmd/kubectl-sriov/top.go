// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"

	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

const (
	defaultInterval = 2 * time.Second
	defaultPort     = deploy.DefaultMetricsPort
	// directTimeout bounds asking a node itself, which this machine may not reach.
	directTimeout = 3 * time.Second
)

type traffic struct {
	interval time.Duration
	port     int
}

// Rate is the traffic of one VF, per second.
type Rate struct {
	Node    string `json:"node"`
	PF      string `json:"pf"`
	VF      int    `json:"vf"`
	Address string `json:"pciAddress"`
	Pod     string `json:"pod,omitempty"`
	// Counted is false while all counts are 0. The kernel reports 0 (IFLA_VF_STATS) also for
	// VFs whose PF's driver counts nothing, such as igb.
	Counted   bool    `json:"counted"`
	RxBytes   float64 `json:"rxBytesPerSecond"`
	TxBytes   float64 `json:"txBytesPerSecond"`
	RxPackets float64 `json:"rxPacketsPerSecond"`
	TxPackets float64 `json:"txPacketsPerSecond"`
	Dropped   float64 `json:"droppedPerSecond"`
}

type vfKey struct{ node, address string }

// sample is what a node counted until a moment.
type sample struct {
	at   time.Time
	rate Rate // absolute counts
}

// top asks every node, or those named, twice and prints the difference.
func (c *command) top(ctx context.Context, t traffic, nodes []string) error {
	if t.interval <= 0 {
		return fmt.Errorf("-interval %s: want a positive duration such as 2s", t.interval)
	}
	inv, err := c.read(ctx)
	if err != nil {
		return err
	}
	var pods []corev1.Pod
	for _, p := range inv.Pods {
		if p.Namespace == inv.Namespace && p.Status.Phase == corev1.PodRunning && slices.Contains([]string{deploy.DevicePluginName, deploy.DRAName}, p.Labels["app"]) &&
			!slices.ContainsFunc(pods, func(other corev1.Pod) bool { return other.Spec.NodeName == p.Spec.NodeName }) { // one address and port a node
			pods = append(pods, p)
		}
	}
	if len(pods) == 0 {
		if why := inv.Unread["pods"]; why != "" {
			return fmt.Errorf("find the device plugins: pods: %s", why)
		}
		return fmt.Errorf("no device plugin and no DRA driver runs in namespace %s: ask kubectl sriov why node/NAME", inv.Namespace)
	}
	for _, node := range nodes {
		if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Spec.NodeName == node }) {
			return fmt.Errorf("no device plugin and no DRA driver runs on node %s: ask kubectl sriov why node/%[1]s", node)
		}
	}
	if len(nodes) > 0 {
		pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return !slices.Contains(nodes, p.Spec.NodeName) })
	}
	before, failed := c.scrapeAll(ctx, pods, t.port)
	if len(before) == 0 && len(failed) > 0 {
		return fmt.Errorf("no metrics: they are served once featureGates.metricsExporter of the SriovOperatorConfig is true, and read through the API server "+
			"(right to get pods/proxy) or from port %d of the nodes: %w", t.port, errors.Join(slices.Collect(maps.Values(failed))...))
	}
	// Without a first count there is no rate.
	pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return failed[p.Spec.NodeName] != nil })
	wait := time.NewTimer(t.interval)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
	}
	after, later := c.scrapeAll(ctx, pods, t.port)
	maps.Copy(failed, later)
	for _, node := range slices.Sorted(maps.Keys(failed)) {
		fmt.Fprintln(c.stderr, "not read:", printable(failed[node].Error()))
	}
	return c.printRates(rates(before, after))
}

func (c *command) printRates(all []Rate) error {
	if c.json {
		return c.printJSON(all)
	}
	rows := [][]cell{headings("NODE", "PF", "VF", "ADDRESS", "POD", "RX", "TX", "RX PKT/S", "TX PKT/S", "DROPS/S")}
	uncounted := false
	for _, r := range all {
		row := plain(r.Node, r.PF, strconv.Itoa(r.VF), r.Address, r.Pod)
		if !r.Counted {
			uncounted = true
			rows = append(rows, append(row, plain("-", "-", "-", "-", "-")...))
			continue
		}
		row = append(row, plain(bits(r.RxBytes), bits(r.TxBytes),
			fmt.Sprintf("%.0f", r.RxPackets), fmt.Sprintf("%.0f", r.TxPackets), fmt.Sprintf("%.0f", r.Dropped))...)
		if r.Dropped > 0 {
			row[9].colour = red
		}
		rows = append(rows, row)
	}
	c.table(rows)
	if uncounted {
		fmt.Fprintln(c.stderr, "-: nothing has been counted since the VF was made; not every driver of PFs counts (igb does not)")
	}
	return nil
}

// bits is a rate in the units of links.
func bits(bytes float64) string {
	value, units := bytes*8, []string{"bit/s", "kbit/s", "Mbit/s", "Gbit/s"}
	i := 0
	for ; value >= 1000 && i < len(units)-1; i++ {
		value /= 1000
	}
	return fmt.Sprintf("%.1f %s", value, units[i])
}

// rates is what was counted between two samples. A counter that went back began anew.
func rates(before, after map[vfKey]sample) []Rate {
	out := []Rate{}
	for key, now := range after {
		was, ok := before[key]
		seconds := now.at.Sub(was.at).Seconds()
		if !ok || seconds <= 0 {
			continue
		}
		r, w := now.rate, was.rate
		per := func(now, was float64) float64 {
			if now < was {
				was = 0
			}
			return (now - was) / seconds
		}
		r.Counted = r.RxBytes+r.TxBytes+r.RxPackets+r.TxPackets+r.Dropped > 0
		r.RxBytes, r.TxBytes = per(r.RxBytes, w.RxBytes), per(r.TxBytes, w.TxBytes)
		r.RxPackets, r.TxPackets, r.Dropped = per(r.RxPackets, w.RxPackets), per(r.TxPackets, w.TxPackets), per(r.Dropped, w.Dropped)
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Rate) int {
		return cmp.Or(-cmp.Compare(a.RxBytes+a.TxBytes, b.RxBytes+b.TxBytes), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Address, b.Address))
	})
	return out
}

// scrapeAll returns what nodes have counted, and by node why that could not be read.
func (c *command) scrapeAll(ctx context.Context, pods []corev1.Pod, port int) (map[vfKey]sample, map[string]error) {
	out, failed := map[vfKey]sample{}, map[string]error{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	slots := make(chan struct{}, 16)
	for _, p := range pods {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			text, err := c.scrape(ctx, &p, port)
			var some []Rate
			if err == nil {
				some, err = parseMetrics(p.Spec.NodeName, text)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[p.Spec.NodeName] = fmt.Errorf("metrics of node %s: %w", p.Spec.NodeName, err)
			}
			for _, r := range some {
				out[vfKey{r.Node, r.Address}] = sample{time.Now(), r}
			}
		})
	}
	wait.Wait()
	return out, failed
}

// scrape reads a device plugin's metrics through the API server, or from the node itself
// for accounts that may only view.
func (c *command) scrape(ctx context.Context, p *corev1.Pod, port int) ([]byte, error) {
	text, err := c.get(ctx, fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:%d/proxy/metrics", p.Namespace, p.Name, port), nil, whole)
	if err == nil || p.Status.HostIP == "" {
		return text, err
	}
	direct, directErr := fetch(ctx, &http.Client{Timeout: directTimeout}, "http://"+net.JoinHostPort(p.Status.HostIP, strconv.Itoa(port))+"/metrics", whole)
	if directErr != nil {
		return nil, fmt.Errorf("%w; from the node itself: %w", err, directErr)
	}
	return direct, nil
}

// parseMetrics reads counts of VFs and whose they are.
func parseMetrics(node string, text []byte) ([]Rate, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	byAddress := map[string]*Rate{}
	for name, field := range map[string]func(*Rate) *float64{
		"sriov_vf_rx_bytes": func(r *Rate) *float64 { return &r.RxBytes }, "sriov_vf_tx_bytes": func(r *Rate) *float64 { return &r.TxBytes },
		"sriov_vf_rx_packets": func(r *Rate) *float64 { return &r.RxPackets }, "sriov_vf_tx_packets": func(r *Rate) *float64 { return &r.TxPackets },
		"sriov_vf_rx_dropped": func(r *Rate) *float64 { return &r.Dropped }, "sriov_vf_tx_dropped": func(r *Rate) *float64 { return &r.Dropped },
	} {
		for _, m := range families[name].GetMetric() {
			l := labels(m)
			r := byAddress[l["pciAddr"]]
			if r == nil {
				number, err := strconv.Atoi(l["vf"])
				if err != nil {
					return nil, fmt.Errorf("label vf of %s: %w", name, err)
				}
				r = &Rate{Node: node, PF: l["pf"], VF: number, Address: l["pciAddr"]}
				byAddress[r.Address] = r
			}
			value := m.GetCounter().GetValue() + m.GetUntyped().GetValue()
			if math.IsNaN(value) || math.IsInf(value, 0) {
				return nil, fmt.Errorf("%s of VF %s is %v: want a number", name, l["pciAddr"], value)
			}
			*field(r) += value
		}
	}
	for _, m := range families["sriov_kubepoddevice"].GetMetric() {
		l := labels(m)
		pod := l["namespace"] + "/" + l["pod"]
		// A claim's VF may be several containers' and pods'.
		if r := byAddress[l["pciAddr"]]; r != nil && !slices.Contains(strings.Split(r.Pod, ","), pod) {
			r.Pod = strings.TrimPrefix(r.Pod+","+pod, ",")
		}
	}
	var out []Rate
	for _, r := range byAddress {
		out = append(out, *r)
	}
	return out, nil
}

func labels(m *dto.Metric) map[string]string {
	out := map[string]string{}
	for _, l := range m.GetLabel() {
		out[l.GetName()] = l.GetValue()
	}
	return out
}
