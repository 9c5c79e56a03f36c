// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// measure reports what a scenario cost the operator, and whether it was the last.
func (s *scale) measure(name string, scenario func()) (last bool) {
	cpu, before, begun := s.cpu(), s.writes(), time.Now()
	if name == "cold" || name == "restart" {
		cpu, before = 0, nil // everything this process does
	}
	scenario()
	wall := time.Since(begun).Seconds()
	cpu = s.cpu() - cpu
	total, kinds := 0.0, []string{}
	after := s.writes()
	for _, kind := range slices.Sorted(maps.Keys(after)) {
		if d := after[kind] - before[kind]; d > 0 {
			total += d
			kinds = append(kinds, fmt.Sprintf("%s %.0f", kind, d))
		}
	}
	s.b.ReportMetric(wall, name+"-s")
	s.b.ReportMetric(cpu, name+"-cpu-s")
	s.b.ReportMetric(total, name+"-writes")
	if name == "idle10s" {
		s.b.ReportMetric(s.rss(), "rss-MiB")
	}
	// At once: with thousands of nodes it is minutes to the end.
	fmt.Fprintf(os.Stderr, "%-11s %6d nodes: %7.2f s, %6.2f s CPU, %4.0f MiB, %6.0f writes (%s)\n", name, s.nodes, wall, cpu, s.rss(), total, strings.Join(kinds, ", "))
	return name == os.Getenv("UNTIL")
}

// cpu seconds of the operator so far: fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms.
func (s *scale) cpu() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	require.NoError(s.b, err)
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100
}

func (s *scale) rss() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	require.NoError(s.b, err)
	pages, _ := strconv.ParseFloat(strings.Fields(string(b))[1], 64)
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

// writes that the operator has sent so far, by resource, as it counts them itself.
func (s *scale) writes() map[string]float64 {
	out := map[string]float64{}
	resp, err := http.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		return out // it has only just started
	}
	defer resp.Body.Close()
	for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
		if rest, ok := strings.CutPrefix(scanner.Text(), `sriovkit_api_writes_total{resource="`); ok {
			kind, n, _ := strings.Cut(rest, `"} `)
			out[kind], _ = strconv.ParseFloat(n, 64)
		}
	}
	return out
}

// until waits for n nodes that satisfy a condition.
func (s *scale) until(ok func(seen) bool, n int) {
	s.b.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		have := 0
		for _, c := range s.states {
			if ok(c) {
				have++
			}
		}
		s.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-s.wake:
		case <-s.ended:
			said, _ := os.ReadFile(s.log)
			s.b.Fatalf("the operator ended: %s", said)
		case <-deadline:
			s.b.Fatalf("%d of %d nodes after %s", have, n, patience)
		}
	}
}

// ready waits for the policy's status to say that all nodes are.
func (s *scale) ready(n int) {
	s.b.Helper()
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		var p v1.SriovNetworkNodePolicy
		require.NoError(s.b, s.Get(s.b.Context(), client.ObjectKey{Namespace: ns, Name: "all"}, &p))
		if p.Status.ReadyNodes == n && p.Status.Conditions[0].ObservedGeneration == p.Generation {
			return
		}
		if time.Since(begun) > patience {
			s.b.Fatalf("%d of %d nodes ready", p.Status.ReadyNodes, n)
		}
	}
}

// settled waits until the operator serves and has used no CPU to speak of for a while.
func (s *scale) settled() {
	serves := func() bool {
		resp, err := http.Get("http://" + s.metrics + "/metrics")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil
	}
	for last, deadline := -1.0, time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Second) {
		now := s.cpu()
		if now-last < 0.05 && serves() {
			return
		}
		last = now
	}
	s.b.Fatalf("the operator is not at rest after %s", patience)
}
