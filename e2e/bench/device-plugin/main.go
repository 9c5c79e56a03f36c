// SPDX-License-Identifier: Apache-2.0

// Device-plugin measures SR-IOV device plugins beside each other on generated
// hosts: time and CPU from exec until every pool is served, resident memory,
// system calls. The first binary is what the ratios refer to.
//
//	go run ./bench/device-plugin -binary ours=/path/sriovdp -binary theirs=/path/sriovdp
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
}

func run(ctx context.Context) error {
	var t task
	var hosts []shape
	contest.Flag(&t.Binaries)
	list := flag.String("hosts", "1x8x1,2x64x8,8x128x16", "`PFs x VFs a PF x pools`, a list")
	flag.IntVar(&t.Count, "n", 11, "runs of each binary on a host; medians are printed")
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
	for _, t.Host = range hosts {
		costs, err := isolate(ctx, t)
		if err != nil {
			return err
		}
		rows = append(rows, row{t.Host, costs})
	}
	return report(os.Stdout, t.Binaries, rows)
}

// isolate runs a task in namespaces of its own: this program once more.
func isolate(ctx context.Context, t task) ([]cost, error) {
	dir, err := os.MkdirTemp("", "bench-device-plugin-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	t.Dir = dir
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-inside", string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Host, err)
	}
	var costs []cost
	return costs, json.Unmarshal(out, &costs)
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
	var costs []cost
	for _, b := range t.Binaries {
		c, err := h.measure(ctx, b, t.Count)
		if err != nil {
			return fmt.Errorf("%s: %w", b.Label, err)
		}
		costs = append(costs, c)
	}
	return json.NewEncoder(os.Stdout).Encode(costs)
}
