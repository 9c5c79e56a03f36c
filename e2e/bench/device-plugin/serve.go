// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sriovkit/sriovkit/e2e/bench/contest"
)

// answers is how long a binary took for each Allocate call, in order of time.
type answers []time.Duration

func (a answers) part(percent int) time.Duration {
	if len(a) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(a))
	return sorted[min(len(a)-1, len(a)*percent/100)]
}

// duty is what a binary costs while kubelet watches its pools.
type duty struct {
	Watched int64   // KiB resident when kubelet has every list
	Rescans int64   // KiB resident after ten rescans and a scrape; 0 if there is no such flag
	Churn   float64 // percent of a CPU while pods come and go
	Routes  int64   // KiB at most when the host has many routes
}

// client is the stand-in for kubelet, a program of its own.
type client struct {
	cmd   *exec.Cmd
	in    io.Closer
	Times map[string]answers // by resource prefix
}

// connect watches every pool that is served, and asks for devices.
func (h *host) connect(ctx context.Context, calls int) (*client, error) {
	c := &client{cmd: exec.CommandContext(ctx, filepath.Join(h.dir, "client"), "-registry", registry, "-calls", fmt.Sprint(calls))}
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.in = in
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if err := json.NewDecoder(out).Decode(&c.Times); err != nil {
		return nil, errors.Join(fmt.Errorf("kubelet's stand-in: %w", err), c.close())
	}
	return c, nil
}

func (c *client) close() error { return errors.Join(c.in.Close(), c.cmd.Wait()) }

func prefix(i int) string { return fmt.Sprintf("binary%d.example", i) }

// contend lets all binaries serve the host at the same time, and asks them by turns.
func (h *host) contend(ctx context.Context, binaries []contest.Binary, calls int, args ...string) ([]answers, error) {
	if err := clearRegistry(); err != nil {
		return nil, err
	}
	var all []*process
	defer func() {
		for _, p := range all {
			p.stop()
		}
	}()
	for i, b := range binaries {
		p, err := h.start(ctx, []string{b.Path}, append(args, "-resource-prefix", prefix(i)))
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	if err := h.await(ctx, h.Pools*len(binaries), all...); err != nil {
		return nil, err
	}
	c, err := h.connect(ctx, calls)
	if err != nil {
		return nil, err
	}
	out := make([]answers, len(binaries))
	for i := range binaries {
		out[i] = c.Times[prefix(i)]
	}
	return out, c.close()
}

const (
	churnPairs = 10 // a second, each two interfaces that come and two that go
	churnTime  = 20 * time.Second
	routeCount = 100_000
)

// endure measures what a binary costs while kubelet watches its pools.
func (h *host) endure(ctx context.Context, path string) (duty, error) {
	var d duty
	var err error
	if d.Rescans, err = h.rescans(ctx, path); err != nil {
		return d, err
	}
	if err := clearRegistry(); err != nil {
		return d, err
	}
	p, err := h.start(ctx, []string{path}, nil)
	if err != nil {
		return d, err
	}
	defer p.stop()
	if err := h.await(ctx, h.Pools, p); err != nil {
		return d, err
	}
	c, err := h.connect(ctx, 0)
	if err != nil {
		return d, err
	}
	defer func() { _ = c.close() }() // its connections broke, as they should
	if d.Watched, err = resident(p); err != nil {
		return d, err
	}
	if d.Churn, err = churn(ctx, p); err != nil {
		return d, err
	}
	d.Routes, err = withRoutes(p)
	return d, err
}

// stops are how long a binary took from SIGTERM to its end, shortest first.
type stops []time.Duration

// stops ends a binary that kubelet watches, as often as count says; a slow one once.
func (h *host) stops(ctx context.Context, path string, count int) (all stops, err error) {
	for len(all) < count {
		if err := clearRegistry(); err != nil {
			return nil, err
		}
		p, err := h.start(ctx, []string{path}, nil)
		if err != nil {
			return nil, err
		}
		defer p.stop()
		if err := h.await(ctx, h.Pools, p); err != nil {
			return nil, err
		}
		wall := time.Since(p.began)
		c, err := h.connect(ctx, 0)
		if err != nil {
			return nil, err
		}
		all = append(all, p.stop())
		_ = c.close() // its connections broke, as they should
		if wall > slow {
			break
		}
	}
	slices.Sort(all)
	return all, nil
}

func resident(p *process) (int64, error) {
	var c cost
	err := c.readMemory(p.pid())
	return c.RSS, err
}

// rescans lets a binary look at the host ten times, and reads its metrics.
func (h *host) rescans(ctx context.Context, path string) (int64, error) {
	help, _ := exec.CommandContext(ctx, path, "-help").CombinedOutput() // may count as a failure
	if !strings.Contains(string(help), "-rescan") {
		return 0, nil
	}
	if err := clearRegistry(); err != nil {
		return 0, err
	}
	const metrics = "127.0.0.1:9809"
	p, err := h.start(ctx, []string{path}, []string{"-rescan", "1s", "-metrics-address", metrics})
	if err != nil {
		return 0, err
	}
	defer p.stop()
	if err := h.await(ctx, h.Pools, p); err != nil {
		return 0, err
	}
	c, err := h.connect(ctx, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.close() }()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for n := 0.; n < 10; {
		if n, err = periodicLooks(ctx, metrics); err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%v rescans in %s", n, patience)
		case <-time.After(time.Second):
		}
	}
	return resident(p)
}

// periodicLooks reads a metric of sriovdp.
func periodicLooks(ctx context.Context, address string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var n float64
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), `sriovdp_rescans_total{cause="periodic"} `); ok {
			_, err = fmt.Sscan(value, &n)
		}
	}
	return n, err
}

// churn makes and removes interfaces as pods do, and returns the CPU that this costs.
func churn(ctx context.Context, p *process) (percent float64, err error) {
	before, err := cpuTime(p.pid())
	if err != nil {
		return 0, err
	}
	began := time.Now()
	tick := time.NewTicker(time.Second / churnPairs)
	defer tick.Stop()
	for i := 0; time.Since(began) < churnTime; i++ {
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("pod%d", i)}, PeerName: fmt.Sprintf("peer%d", i)}
		if err := netlink.LinkAdd(pair); err != nil {
			return 0, fmt.Errorf("add veth pair: %w", err)
		}
		if err := netlink.LinkDel(pair); err != nil {
			return 0, fmt.Errorf("remove veth pair: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	after, err := cpuTime(p.pid())
	return 100 * float64(after-before) / float64(time.Since(began)), err
}

// withRoutes is the most memory that a process takes while the host gets many routes, and
// then a default route, which is a reason to look at them all.
func withRoutes(p *process) (int64, error) {
	const resetPeak = "5" // proc_pid_clear_refs(5)
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.pid()), []byte(resetPeak), 0); err != nil {
		return 0, err
	}
	port := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "routes"}} // which every kernel has
	if err := netlink.LinkAdd(port); err != nil {
		return 0, err
	}
	defer func() { _ = netlink.LinkDel(port) }() // the namespace ends soon
	if err := netlink.LinkSetUp(port); err != nil {
		return 0, err
	}
	for i := range routeCount {
		to := &net.IPNet{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)), Mask: net.CIDRMask(32, 32)}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: port.Index, Dst: to, Scope: netlink.SCOPE_LINK}); err != nil {
			return 0, fmt.Errorf("route %d: %w", i, err)
		}
	}
	any4 := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	for range 3 {
		def := &netlink.Route{LinkIndex: port.Index, Dst: any4, Scope: netlink.SCOPE_LINK}
		if err := errors.Join(netlink.RouteAdd(def), netlink.RouteDel(def)); err != nil {
			return 0, err
		}
		time.Sleep(time.Second) // longer than a look takes
	}
	var c cost
	err := c.readMemory(p.pid())
	return c.Peak, err
}
