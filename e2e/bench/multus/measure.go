// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/e2e/bench/contest"
)

// cost is that of one command.
type cost struct {
	wall, cpu time.Duration // CPU of the process and its children
	rss       int64         // peak of the largest process, KiB
	requests  int64         // to the API server
}

// row is one case: its costs by binary, medians.
type row struct {
	name      string
	delegates int // processes below
	costs     []cost
}

type apiState struct {
	name  string
	delay time.Duration
	down  bool
}

func (b *bench) measure(ctx context.Context, binaries []contest.Binary, slow time.Duration) ([]row, error) {
	var err error
	if b.delegate, err = b.repeat(func(int) (cost, error) {
		return b.launch(ctx, filepath.Join(b.dir, "bin", "delegate"), "ADD", "c", []byte(`{}`))
	}); err != nil {
		return nil, err
	}
	var rows []row
	for _, extra := range []int{0, 1, 3} {
		add, del, err := b.pair(ctx, binaries, extra, apiState{name: "up"})
		if err != nil {
			return nil, err
		}
		rows = append(rows, add, del)
	}
	for _, api := range []apiState{{name: "slow", delay: slow}, {name: "down", down: true}} {
		_, del, err := b.pair(ctx, binaries, 1, api)
		if err != nil {
			return nil, err
		}
		rows = append(rows, del)
	}
	return rows, nil
}

// pair measures ADD and the DEL that follows it. Binaries take turns, so that a
// change of the machine's load hits all of them.
func (b *bench) pair(ctx context.Context, binaries []contest.Binary, extra int, api apiState) (add, del row, err error) {
	add = row{name: fmt.Sprintf("ADD, %d extra", extra), delegates: 1 + extra}
	del = row{name: fmt.Sprintf("DEL, %d extra, API %s", extra, api.name), delegates: 1 + extra}
	var networks []string
	for i := range extra {
		networks = append(networks, fmt.Sprintf("extra%d", i))
	}
	b.api.networks.Store(strings.Join(networks, ","))
	adds, dels := make([][]cost, len(binaries)), make([][]cost, len(binaries))
	for n := range b.count {
		for i, bin := range binaries {
			id := fmt.Sprintf("c%d", n)
			b.api.delay.Store(0)
			c, err := b.launch(ctx, bin.Path, "ADD", id, b.conf(bin, b.up))
			if err != nil {
				return add, del, fmt.Errorf("%s: %s: %w", bin.Label, add.name, err)
			}
			adds[i] = append(adds[i], c)
			b.api.delay.Store(int64(api.delay))
			kubeconfig := b.up
			if api.down {
				kubeconfig = b.down
			}
			c, err = b.launch(ctx, bin.Path, "DEL", id, b.conf(bin, kubeconfig))
			if err != nil {
				return add, del, fmt.Errorf("%s: %s: %w", bin.Label, del.name, err)
			}
			dels[i] = append(dels[i], c)
		}
	}
	b.api.delay.Store(0)
	for i := range binaries {
		add.costs = append(add.costs, median(adds[i]))
		del.costs = append(del.costs, median(dels[i]))
	}
	return add, del, nil
}

func (b *bench) repeat(f func(int) (cost, error)) (cost, error) {
	var costs []cost
	for n := range b.count {
		c, err := f(n)
		if err != nil {
			return cost{}, err
		}
		costs = append(costs, c)
	}
	return median(costs), nil
}

// conf is the configuration on stdin. Both kinds of binaries understand it.
func (b *bench) conf(bin contest.Binary, kubeconfig string) []byte {
	conf := map[string]any{
		"cniVersion": "1.0.0", "name": "multus-bench", "type": "multus",
		"kubeconfig": kubeconfig, "binDir": filepath.Join(b.dir, "bin"),
		"cniDir": filepath.Join(b.dir, "state-"+bin.Label), "confDir": filepath.Join(b.dir, "net.d"), "logToStderr": false,
		"delegates": []any{map[string]any{"cniVersion": "1.0.0", "name": "default", "type": "delegate"}},
	}
	if b.annotations {
		annotations := map[string]string{}
		if networks := b.api.networks.Load().(string); networks != "" {
			annotations["k8s.v1.cni.cncf.io/networks"] = networks
		}
		conf["runtimeConfig"] = map[string]any{"io.kubernetes.cri.pod-annotations": annotations}
	}
	data, err := json.Marshal(conf)
	if err != nil {
		panic(err) // of strings and maps of them
	}
	return data
}

func (b *bench) launch(ctx context.Context, program, command, id string, stdin []byte) (cost, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(b.dir, "bin", "probe"), "launch", program)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "CNI_COMMAND=" + command, "CNI_CONTAINERID=" + id, "CNI_IFNAME=eth0",
		"CNI_NETNS=/proc/" + fmt.Sprint(os.Getpid()) + "/fd/" + fmt.Sprint(b.ns.File.Fd()), "CNI_PATH=" + filepath.Join(b.dir, "bin"),
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=" + namespace + ";K8S_POD_NAME=" + pod + ";K8S_POD_INFRA_CONTAINER_ID=" + id + ";K8S_POD_UID=" + uid,
	}
	r, w, err := os.Pipe()
	if err != nil {
		return cost{}, err
	}
	defer r.Close()
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = bytes.NewReader(stdin), &out, &out, []*os.File{w}
	before := b.api.requests.Load()
	err = cmd.Run()
	_ = w.Close() // the child has its own
	if err != nil {
		return cost{}, fmt.Errorf("%w: %s", err, out.String())
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return cost{}, err
	}
	var c cost
	var wall, cpu int64
	if _, err := fmt.Sscan(string(text), &wall, &cpu, &c.rss); err != nil {
		return cost{}, fmt.Errorf("probe printed %q: %w", text, err)
	}
	c.wall, c.cpu, c.requests = time.Duration(wall), time.Duration(cpu), b.api.requests.Load()-before
	return c, nil
}

// median takes each measure's own.
func median(costs []cost) cost {
	return cost{
		wall:     contest.Median(costs, func(c cost) time.Duration { return c.wall }),
		cpu:      contest.Median(costs, func(c cost) time.Duration { return c.cpu }),
		rss:      contest.Median(costs, func(c cost) int64 { return c.rss }),
		requests: contest.Median(costs, func(c cost) int64 { return c.requests }),
	}
}
