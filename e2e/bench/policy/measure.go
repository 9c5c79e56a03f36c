// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/e2e/cluster"
	"github.com/sriovkit/sriovkit/e2e/component"
)

// patience is many times what a run takes.
const patience = 2 * time.Minute

type bench struct {
	*cluster.Cluster
	settings
	state, node *watch
}

func newBench(ctx context.Context, k *cluster.Cluster, s settings) (*bench, error) {
	b := &bench{Cluster: k, settings: s}
	var err, nodeErr error
	b.state, err = b.watch(ctx, "sriovnetworknodestate", `{.metadata.generation}|{.status.conditions[?(@.type=="Ready")].observedGeneration}|{.status.syncStatus}|{.spec.interfaces[0].numVfs}`)
	b.node, nodeErr = b.watch(ctx, "node", `{.status.allocatable.openshift\.io/nics}`)
	return b, errors.Join(err, nodeErr)
}

// measure applies the policy, waits for the resource, and takes both away again.
func (b *bench) measure(ctx context.Context) (t times, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not done after %s", patience))
	defer cancel()
	offset, err := b.clock(ctx)
	if err != nil {
		return t, err
	}
	begun := time.Now()
	if err := b.Apply(ctx, b.policy()); err != nil {
		return t, err
	}
	t[applied] = time.Since(begun)
	for s, condition := range map[stage]func() (time.Time, error){
		planned: func() (time.Time, error) {
			return b.state.since(ctx, begun, func(f []string) bool { return f[3] == strconv.Itoa(b.VFs) })
		},
		synced: func() (time.Time, error) {
			return b.state.since(ctx, begun, func(f []string) bool {
				return f[0] == f[1] && f[2] == "Succeeded" && f[3] == strconv.Itoa(b.VFs)
			})
		},
		allocatable: func() (time.Time, error) {
			return b.node.since(ctx, begun, func(f []string) bool { return f[0] == strconv.Itoa(b.VFs) })
		},
	} {
		at, err := condition()
		if err != nil {
			return t, fmt.Errorf("%s: %w", s, err)
		}
		t[s] = at.Sub(begun)
	}
	if err := b.readLogs(ctx, &t, begun, offset); err != nil {
		return t, err
	}
	if _, err := b.Kubectl(ctx, nil, "delete", "sriovnetworknodepolicy", "nics", "-n", component.Namespace); err != nil {
		return t, err
	}
	gone := time.Now()
	if _, err := b.state.since(ctx, gone, func(f []string) bool { return f[0] == f[1] && f[2] == "Succeeded" && f[3] == "" }); err != nil {
		return t, err
	}
	_, err = b.node.since(ctx, gone, func(f []string) bool { return f[0] == "" || f[0] == "0" })
	return t, err
}

func (b *bench) policy() string {
	return fmt.Sprintf(`
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkNodePolicy
metadata: {name: nics, namespace: %s}
spec:
  resourceName: nics
  numVfs: %d
  deviceType: %s
  nodeSelector: {kubernetes.io/os: linux}
  nicSelector: {rootDevices: ["0000:01:00.0"]}
`, component.Namespace, b.VFs, b.DeviceType)
}

// clock is by how much the node's clock is ahead of this machine's: of several answers the one
// that came quickest.
func (b *bench) clock(ctx context.Context) (ahead time.Duration, err error) {
	best := time.Hour
	for range 5 {
		before := time.Now()
		out, err := b.Nodes[0].Output(ctx, "date", "+%s%N")
		took := time.Since(before)
		if err != nil {
			return 0, err
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
		if err != nil {
			return 0, err
		}
		if took < best {
			best, ahead = took, time.Unix(0, ns).Sub(before.Add(took/2))
		}
	}
	return ahead, nil
}

// line is a line of the operator's, the daemon's or the device plugin's log, as far as it
// matters.
type line struct {
	Time     time.Time
	Msg      string
	PCI      string
	Resource string
	Devices  int
}

// readLogs finds the stages that only the node knows of.
func (b *bench) readLogs(ctx context.Context, t *times, begun time.Time, ahead time.Duration) error {
	for _, pod := range []string{"sriov-network-config-daemon", "sriov-device-plugin"} {
		text, err := b.Nodes[0].Output(ctx, "sh", "-c", "cat /var/log/containers/"+pod+"-*"+pod+"-*.log")
		if err != nil {
			return err
		}
		for entry := range strings.Lines(text) {
			_, object, found := strings.Cut(entry, " F ") // the runtime's own time and stream come first
			var l line
			if !found || json.Unmarshal([]byte(object), &l) != nil || l.Time.Add(-ahead).Before(begun) {
				continue
			}
			at := l.Time.Add(-ahead).Sub(begun)
			if b.Verbose {
				fmt.Fprintf(os.Stderr, "%6.3f %s %s", at.Seconds(), pod, object)
			}
			switch {
			case l.Msg == "changing":
				t[began] = at
			case l.Msg == "changed":
				t[made] = at
			case l.Msg == "offered":
				t[offered] = at
			case l.Msg == "pool" && l.Devices == b.VFs:
				t[published] = at
			case l.Msg == "told kubelet" && l.Devices == b.VFs:
				t[told] = at
			}
		}
	}
	return nil
}
