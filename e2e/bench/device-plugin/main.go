// SPDX-License-Identifier: Apache-2.0

// Device-plugin measures SR-IOV device plugins beside each other on generated
// hosts: time and CPU from exec until every pool is served, resident memory, system calls;
// then, on the last of the hosts, how long Allocate takes while all binaries serve it and are
// asked by turns, what each needs while kubelet watches it, and how long it takes from SIGTERM
// to its end. The first binary is what the ratios refer to.
//
//	go run ./bench/device-plugin -binary ours=/path/sriovdp -binary theirs=/path/sriovdp -client /path/client
//
// It needs root: each host is a generated sysfs tree mounted over /sys in mount
// and network namespaces of its own, with an empty /var/lib/kubelet. System
// calls are counted if strace is installed. A pool counts as served when its
// socket in kubelet's plugin registry accepts connections.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/sriovkit/sriovkit/e2e/bench/contest"
)

func main() { os.Exit(contest.Main("device-plugin", run)) }

// task is what a run inside of the namespaces is about: one host, all binaries.
type task struct {
	Host     shape
	Binaries []contest.Binary
	Count    int
	Dir      string // scratch
	Client   string // program that stands in for kubelet; "" leaves out what needs it
	Calls    int    // Allocate calls of each binary
	RDMA     bool
	Stage    stage
}

// stage is what a run in the namespaces measures.
type stage string

const (
	stageStart    stage = "start"
	stageAllocate stage = "allocate"
	stageCDI      stage = "allocate, CDI"
	stageDuty     stage = "duty"
	stageStop     stage = "stop"
)

// stopPools is how many pools a host has from which they are withdrawn.
const stopPools = 20

// outcome has one entry a binary of what the stage measures.
type outcome struct {
	Costs   []cost    `json:",omitempty"`
	Answers []answers `json:",omitempty"`
	Duties  []duty    `json:",omitempty"`
	Stops   []stops   `json:",omitempty"`
}

func run(ctx context.Context) error {
	var t task
	var hosts []shape
	contest.Flag(&t.Binaries)
	list := flag.String("hosts", "1x8x1,2x64x8,8x128x16", "`PFs x VFs a PF x pools`, a list")
	flag.IntVar(&t.Count, "n", 11, "runs of each binary on a host; medians are printed")
	flag.StringVar(&t.Client, "client", "", "`program` that stands in for kubelet, device-plugin/internal/kubelettest/client; without it only starts are measured")
	flag.IntVar(&t.Calls, "calls", 2000, "Allocate calls of each binary on the last of the hosts")
	inside := flag.String("inside", "", "")
	flag.Parse()
	if *inside != "" {
		return measureInside(ctx, *inside)
	}
	for s := range strings.SplitSeq(*list, ",") {
		h, err := parseShape(s)
		if err != nil {
			return err
		}
		hosts = append(hosts, h)
	}
	if len(t.Binaries) == 0 {
		return errors.New("no -binary given")
	}
	var rows []row
	t.Stage = stageStart
	for _, t.Host = range hosts {
		out, err := isolate(ctx, t)
		if err != nil {
			return err
		}
		rows = append(rows, row{t.Host, out.Costs})
	}
	if err := report(os.Stdout, t.Binaries, rows); err != nil || t.Client == "" {
		return err
	}
	for _, of := range []struct {
		stage stage
		rdma  bool
	}{{stageAllocate, false}, {stageAllocate, true}, {stageCDI, false}, {stageCDI, true}} {
		t.Stage, t.RDMA = of.stage, of.rdma
		out, err := isolate(ctx, t)
		if err != nil {
			return err
		}
		if err := reportAnswers(os.Stdout, t, out.Answers); err != nil {
			return err
		}
	}
	t.Stage, t.RDMA = stageDuty, false
	out, err := isolate(ctx, t)
	if err != nil {
		return err
	}
	if err := reportDuties(os.Stdout, t, out.Duties); err != nil {
		return err
	}
	t.Stage, t.Host.Pools = stageStop, stopPools
	if out, err = isolate(ctx, t); err != nil {
		return err
	}
	return reportStops(os.Stdout, t, out.Stops)
}

// isolate runs a task in namespaces of its own: this program once more.
func isolate(ctx context.Context, t task) (outcome, error) {
	dir, err := os.MkdirTemp("", "bench-device-plugin-")
	if err != nil {
		return outcome{}, err
	}
	defer os.RemoveAll(dir)
	t.Dir = dir
	text, err := json.Marshal(t)
	if err != nil {
		return outcome{}, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-inside", string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		return outcome{}, fmt.Errorf("%s, %s: %w", t.Host, t.Stage, err)
	}
	var result outcome
	return result, json.Unmarshal(out, &result)
}

func measureInside(ctx context.Context, text string) error {
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	h, err := newHost(t)
	if err != nil {
		return err
	}
	var out outcome
	switch t.Stage {
	case stageAllocate:
		out.Answers, err = h.contend(ctx, t.Binaries, t.Calls)
	case stageCDI:
		out.Answers, err = h.contend(ctx, t.Binaries, t.Calls, "-use-cdi")
	case stageStart, stageDuty, stageStop:
		for _, b := range t.Binaries {
			if err := h.alone(ctx, t, b, &out); err != nil {
				return fmt.Errorf("%s: %w", b.Label, err)
			}
		}
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// alone measures one binary that has the host to itself.
func (h *host) alone(ctx context.Context, t task, b contest.Binary, out *outcome) error {
	switch t.Stage {
	case stageDuty:
		d, err := h.endure(ctx, b.Path)
		out.Duties = append(out.Duties, d)
		return err
	case stageStop:
		s, err := h.stops(ctx, b.Path, t.Count)
		out.Stops = append(out.Stops, s)
		return err
	case stageStart, stageAllocate, stageCDI:
	}
	c, err := h.measure(ctx, b, t.Count)
	out.Costs = append(out.Costs, c)
	return err
}
