// SPDX-License-Identifier: Apache-2.0

// Policy measures how long it takes from a policy to a resource of a running node,
// stage by stage, on a cluster with one emulated node.
//
//	go run ./bench/policy -runs 5 -vfs 7 -type netdevice
//
// Nothing polls meanwhile: the API server's figures come from watches, those of the
// node from the logs of its daemons, whose clock is compared before each run. The
// machine should be quiet all the same: the emulated node needs both its processors.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sriovkit/sriovkit/e2e/bench/contest"
	"github.com/sriovkit/sriovkit/e2e/cluster"
	"github.com/sriovkit/sriovkit/e2e/component"
)

func main() { os.Exit(contest.Main("policy", run)) }

// settings are what the flags say.
type settings struct {
	Runs, VFs  int
	DeviceType string
	Verbose    bool
}

func run(ctx context.Context) (err error) {
	var s settings
	flag.IntVar(&s.Runs, "runs", 5, "how often; the medians are printed, too")
	flag.IntVar(&s.VFs, "vfs", 7, "VFs that the policy asks for, 1 to 7")
	flag.StringVar(&s.DeviceType, "type", "netdevice", "deviceType of the policy: netdevice or vfio-pci")
	flag.BoolVar(&s.Verbose, "logs", false, "print what the daemon and the device plugin logged in each run")
	flag.Parse()
	if s.Runs < 1 || s.VFs < 1 || s.VFs > 7 || flag.NArg() > 0 {
		return errors.New("want -runs of 1 or more, -vfs of 1 to 7, and no arguments")
	}
	k, err := start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	b, err := newBench(ctx, k, s)
	if err != nil {
		return err
	}
	var all []times
	for range s.Runs {
		t, err := b.measure(ctx)
		if err != nil {
			return errors.Join(err, k.SaveLogs(context.WithoutCancel(ctx)))
		}
		all = append(all, t)
	}
	load, _ := os.ReadFile("/proc/loadavg") // beside our own: of this machine, just now
	return report(os.Stdout, s, all, strings.TrimSpace(string(load)))
}

// start brings up a cluster with the operator and all that it installs.
func start(ctx context.Context) (k *cluster.Cluster, err error) {
	checkout, err := component.Checkout(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sriovkit-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := component.Build(ctx, checkout, dir, component.Tag, component.All...); err != nil {
		return nil, err
	}
	if k, err = cluster.Start(ctx, cluster.Config{}); err != nil {
		return nil, err
	}
	for _, c := range component.All {
		err = errors.Join(err, k.Import(ctx, c.Archive(dir)))
	}
	kubectl := func(args ...string) {
		if err == nil {
			_, err = k.Kubectl(ctx, nil, args...)
		}
	}
	kubectl("apply", "-f", filepath.Join(checkout, "multus-shim/deploy/crd.yaml"))
	if err == nil {
		err = component.InstallOperator(ctx, k.Kubectl, checkout)
	}
	// The daemon tells what it does when; it is made anew for that.
	kubectl("patch", "sriovoperatorconfig", "default", "-n", component.Namespace, "--type=merge", "-p", `{"spec":{"logLevel":1}}`)
	const daemon = "daemonset/sriov-network-config-daemon"
	for verbose := ""; err == nil && !strings.Contains(verbose, "-v=1"); { // kubectl wait compares no "="
		verbose, err = k.Kubectl(ctx, nil, "get", daemon, "-n", component.Namespace, "-o", "jsonpath={..command}")
	}
	kubectl("rollout", "status", daemon, "-n", component.Namespace, "--timeout=5m")
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// times are when the stages of one run were reached, from the start of kubectl.
type times [stages]time.Duration

type stage int

const (
	applied stage = iota
	planned
	began
	made
	offered
	published
	told
	synced
	allocatable
	stages
)

func (s stage) String() string {
	return [stages]string{
		"kubectl apply returned", "spec of the node state written", "daemon begins", "VFs there, drivers bound",
		"configuration of the device plugin written", "pool in the device plugin", "ListAndWatch sent the VFs", "node state Succeeded", "allocatable",
	}[s]
}

// report prints a line for each stage: every run, and the median.
func report(out io.Writer, s settings, all []times, load string) error {
	fmt.Fprintf(out, "%d VFs, %s; seconds since kubectl apply began; load of this machine at the end %s\n", s.VFs, s.DeviceType, load)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "stage\tmedian")
	for i := range all {
		fmt.Fprintf(w, "\trun %d", i+1)
	}
	for s := range stages {
		var each []time.Duration
		runs := ""
		for _, t := range all {
			each = append(each, t[s])
			runs += fmt.Sprintf("\t%.2f", t[s].Seconds())
		}
		slices.Sort(each)
		fmt.Fprintf(w, "\n%s\t%.2f%s", s, each[len(each)/2].Seconds(), runs)
	}
	fmt.Fprintln(w)
	return w.Flush()
}
