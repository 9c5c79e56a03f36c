// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a Kubernetes cluster of emulated nodes: a real control
// plane on this machine (package controlplane) and one or two machines with
// SR-IOV NICs (package vm) that join it with containerd and kubelet.
//
// All of it lives in a network namespace of its own, in which nothing but
// loopback exists. Pods reach the API server at 10.96.0.1:443; there is no
// kube-proxy, no DNS and no registry: images are imported with Import. With two
// nodes, their NICs share one layer 2.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/controlplane"
	"github.com/sriovkit/sriovkit/e2e/netns"
	"github.com/sriovkit/sriovkit/e2e/stage"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

// BusyboxImage is an image all nodes have; without a command it sleeps.
const BusyboxImage = artifact.BusyboxImage

// Config describes a cluster.
type Config struct {
	// Nodes is the hardware, one or two; none is one node with two igb ports.
	// Names, fabric and management network are set by Start.
	Nodes []vm.Config
	// Layout is where all nodes keep their files.
	Layout Layout
	Log    io.Writer // progress; nil is os.Stderr
}

// Cluster is a running cluster.
type Cluster struct {
	*controlplane.ControlPlane
	Nodes []*Node

	netns  *netns.Namespace
	fabric *vm.Fabric
	log    io.Writer
	cache  *stage.Cache
}

// Start builds what is missing and starts a cluster. It returns when all nodes
// are Ready; with one node and everything built that takes about 16 s. An error
// says where the logs are.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	if config.Log == nil {
		config.Log = os.Stderr
	}
	if len(config.Nodes) == 0 {
		config.Nodes = []vm.Config{{}}
	}
	if len(config.Nodes) > 2 {
		return nil, fmt.Errorf("%d nodes, want 1 or 2: a fabric has two ends", len(config.Nodes))
	}
	for _, n := range config.Nodes {
		if err := n.Check(); err != nil {
			return nil, err
		}
	}
	if err := netns.Check(); err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	cache, err := stage.Open(config.Log)
	if err != nil {
		return nil, err
	}
	disk, err := build(ctx, cache, config.Nodes)
	if err != nil {
		return nil, err
	}
	c := &Cluster{log: config.Log, cache: cache}
	begun := time.Now()
	if err := c.start(ctx, config, disk); err != nil {
		err = fmt.Errorf("start cluster: %w", err)
		if len(c.Nodes) > 0 && ctx.Err() == nil { // else nothing is wrong with them
			err = errors.Join(err, c.SaveLogs(context.WithoutCancel(ctx)))
		}
		return nil, errors.Join(err, c.Close())
	}
	fmt.Fprintf(c.log, "cluster: %d node(s) Ready after %.1fs\n", len(c.Nodes), time.Since(begun).Seconds())
	return c, nil
}

// build returns the disk that nodes of clusters have, and builds what else they boot from:
// while Kubernetes is compiled, so that what a mirror lacks is known before minutes are spent.
func build(ctx context.Context, cache *stage.Cache, nodes []vm.Config) (disk string, err error) {
	group, both := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := artifact.BuildKubernetes(both, cache)
		return err
	})
	group.Go(func() error {
		for _, n := range nodes {
			if _, err := artifact.BuildNode(both, cache, n.Kernel); err != nil {
				return err
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return "", err
	}
	return artifact.BuildClusterDisk(ctx, cache)
}

func (c *Cluster) start(ctx context.Context, config Config, disk string) (err error) {
	if c.netns, err = netns.New(ctx); err != nil {
		return err
	}
	if len(config.Nodes) == 2 {
		if c.fabric, err = vm.NewFabric(); err != nil {
			return err
		}
	}
	nodes := make([]*Node, len(config.Nodes))
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		c.ControlPlane, err = controlplane.Start(groupCtx, controlplane.Config{Controllers: true, Netns: c.netns, Log: config.Log})
		return err
	})
	for i, hardware := range config.Nodes {
		group.Go(func() (err error) {
			nodes[i], err = c.boot(groupCtx, i, hardware, config.Layout, disk)
			return err
		})
	}
	err = group.Wait()
	for _, n := range nodes {
		if n != nil {
			c.Nodes = append(c.Nodes, n)
		}
	}
	if err != nil {
		return err
	}
	group, groupCtx = errgroup.WithContext(ctx)
	for i, n := range c.Nodes {
		group.Go(func() error { return n.join(groupCtx, c, i) })
	}
	return group.Wait()
}

// boot starts the machine of a node.
func (c *Cluster) boot(ctx context.Context, i int, hardware vm.Config, layout Layout, disk string) (*Node, error) {
	n := &Node{Address: fmt.Sprintf("10.0.2.%d", 15+i), layout: layout.withDefaults()}
	// QEMU listens at the node's address for the API server. The source address
	// matters: connections that do not come from loopback reach the node with its
	// own address, and it drops them.
	if err := c.netns.IP(ctx, "route", "add", "local", n.Address+"/32", "dev", "lo", "src", "127.0.0.1", "table", "local"); err != nil {
		return nil, err
	}
	hardware.Name = fmt.Sprintf("node%d", i+1)
	hardware.Fabric = c.fabric
	hardware.Disks = map[string]string{"cluster": disk}
	if hardware.CPUs == 0 {
		hardware.CPUs = 2 // kubelet, containerd and a dozen programs wait for one another
	}
	hardware.Management = &vm.Management{Netns: c.netns.File, Address: n.Address, Forwards: []int{kubeletPort, metricsPort}}
	hardware.Log = c.log
	var err error
	if n.VM, err = vm.Boot(ctx, hardware); err != nil {
		return nil, err
	}
	return n, nil
}

// Netns is the network namespace of the cluster, for programs that talk to it.
func (c *Cluster) Netns() *netns.Namespace { return c.netns }

// Import loads an image archive (OCI or docker) into every node.
func (c *Cluster) Import(ctx context.Context, archive string) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes {
		group.Go(func() error { return n.Import(ctx, archive) })
	}
	return group.Wait()
}

// Apply creates or changes the objects in a manifest.
func (c *Cluster) Apply(ctx context.Context, manifest string) error {
	_, err := c.Kubectl(ctx, strings.NewReader(manifest), "apply", "-f", "-")
	return err
}

// Close takes everything down. It is safe to call more than once.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.Close())
	}
	if c.ControlPlane != nil {
		errs = append(errs, c.ControlPlane.Close())
	}
	if c.fabric != nil {
		errs = append(errs, c.fabric.Close())
		c.fabric = nil
	}
	if c.netns != nil {
		errs = append(errs, c.netns.Close())
		c.netns = nil
	}
	return errors.Join(errs...)
}
