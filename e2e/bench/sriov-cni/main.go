// SPDX-License-Identifier: Apache-2.0

// Sriov-cni measures SR-IOV CNI plugins beside each other on an emulated node:
// time, CPU, resident memory and netlink requests of ADD and DEL, in turns on
// the same VF. The first binary is what the ratios refer to.
//
//	go run ./bench/sriov-cni -binary ours=/path/sriov -binary theirs=/path/sriov
//
// With two or more binaries it also has each undo what another did.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/bench/contest"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

func main() { os.Exit(contest.Main("sriov-cni", run)) }

// task is what the part of this program that runs on the node is to do.
type task struct {
	Binaries []contest.Binary
	Count    int
	Only     string // part of the names of the configurations to measure
}

// guestDir is where everything lies on the node.
const guestDir = "/var/tmp/bench"

func run(ctx context.Context) error {
	var t task
	contest.Flag(&t.Binaries)
	flag.IntVar(&t.Count, "n", 15, "ADDs and DELs of each binary in each configuration; medians are printed")
	flag.StringVar(&t.Only, "only", "", "measure only networks whose name contains `text`")
	inside := flag.String("inside", "", "")
	flag.Parse()
	if *inside != "" {
		return measure(ctx, *inside)
	}
	if len(t.Binaries) == 0 || t.Count < 1 {
		return errors.New("want -binary at least once, and -n of 1 or more")
	}
	report, err := onNode(ctx, t)
	if err != nil {
		return err
	}
	return report.print(os.Stdout)
}

// onNode boots a node, has this program measure there, and returns what it found.
func onNode(ctx context.Context, t task) (r report, err error) {
	dir, err := os.MkdirTemp("", "sriovkit-bench-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	for name, pkg := range map[string]string{
		"bench": "github.com/sriovkit/sriovkit/e2e/bench/sriov-cni", "host-local": "github.com/containernetworking/plugins/plugins/ipam/host-local",
	} {
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return r, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	v, err := vm.Boot(ctx, vm.Config{PFs: 1, Log: os.Stderr})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if err := v.Push(ctx, dir, guestDir); err != nil {
		return r, err
	}
	for i, b := range t.Binaries {
		info, err := os.Stat(b.Path)
		if err != nil {
			return r, err
		}
		r.Sizes = append(r.Sizes, info.Size())
		t.Binaries[i].Path = filepath.Join(guestDir, b.Label)
		if err := v.Push(ctx, b.Path, t.Binaries[i].Path); err != nil {
			return r, err
		}
	}
	text, err := json.Marshal(t)
	if err != nil {
		return r, err
	}
	var out strings.Builder
	err = v.Run(ctx, vm.Command{Args: []string{filepath.Join(guestDir, "bench"), "-inside", string(text)}, Stdout: &out, Stderr: os.Stderr})
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(out.String()), &r)
}
