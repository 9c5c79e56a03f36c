// SPDX-License-Identifier: Apache-2.0

// Package plugin implements the commands of the sriov CNI plugin: ADD gives a pod an SR-IOV
// virtual function, DEL takes it back, even if either was killed before.
//
// The commands are specified at https://www.cni.dev/docs/spec/. The plugin uses sysfs
// (package vf), rtnetlink (attach, repair) and a state directory (state). It needs root in the
// initial network and PID namespaces. It never renames an interface of the host, never binds a
// driver, and never changes a VF that another pod has.
//
// Before the first change, ADD writes a journal of the VF's original state. Package repair
// restores that state from wherever the VF is; a failed ADD, DEL, GC and the next pod's ADD
// all use it.
package plugin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/delegate"
	"github.com/sriovkit/sriovkit/sriov-cni/repair"
	"github.com/sriovkit/sriovkit/sriov-cni/request"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
	"github.com/sriovkit/sriovkit/sriov-cni/vf"
)

// Plugin is the plugin on a host.
type Plugin struct {
	Root     string // of sysfs and proc; "/" except in tests
	StateDir string
	Stdout   io.Writer // takes the result, one JSON document
	Stderr   io.Writer // takes the log, unless the configuration names a file
}

// DefaultStateDir is the state directory, which upstream's plugin uses, too: a node
// can be upgraded and downgraded while pods run.
const DefaultStateDir = "/var/lib/cni/sriov"

// call is one CNI call.
type call struct {
	*Plugin
	*skel.CmdArgs
	host    *vf.Host
	nodeErr error // from reading the node's configuration; DEL does without it
	store   state.Store
	conf    request.Conf // the keys that every command reads
	locked  map[libsriov.Address]bool
	leasing bool // the IPAM plugin was asked for addresses
}

// Funcs are the CNI commands. Their errors are *types.Error.
func (p *Plugin) Funcs(ctx context.Context) skel.CNIFuncs {
	wrap := func(command string, do func(*call, context.Context) error) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error {
			if os.Getenv(delegate.Nested) != "" {
				return nested(command)
			}
			c, err := p.begin(command, args)
			if err != nil {
				return cnierr.ToCNI(err)
			}
			if err = cnierr.ToCNI(do(c, ctx)); err != nil {
				slog.Error("command failed", "err", err)
			}
			return err
		}
	}
	return skel.CNIFuncs{
		Add: wrap("ADD", (*call).add), Del: wrap("DEL", (*call).del), Check: wrap("CHECK", (*call).check),
		GC: wrap("GC", (*call).gc), Status: wrap("STATUS", (*call).status),
	}
}

// nested answers a call that this plugin made to itself, because ipam.type is sriov. It
// refuses ADD, so DEL and GC have nothing to do.
func nested(command string) error {
	if command == "DEL" || command == "GC" {
		return nil
	}
	return cnierr.ToCNI(cnierr.New(types.ErrInvalidNetworkConfig, errors.New("invalid ipam.type: sriov is no IPAM plugin"),
		"name the plugin that hands out addresses, such as host-local"))
}

// begin reads what every command needs, and opens the log.
func (p *Plugin) begin(command string, args *skel.CmdArgs) (*call, error) {
	c := &call{Plugin: p, CmdArgs: args, store: state.Open(p.StateDir), locked: map[libsriov.Address]bool{}}
	var confErr error
	if c.conf, confErr = request.Basics(args.StdinData); confErr != nil && command != "DEL" {
		return nil, confErr
	}
	var node vf.NodeConfig
	node, c.nodeErr = vf.ReadNodeConfig(p.Root)
	w, logErr := p.Stderr, error(nil)
	if c.conf.LogFile != "" {
		if w, logErr = openLog(filepath.Join(p.Root, node.LogDirectory), c.conf.LogFile); logErr != nil {
			w = p.Stderr
		}
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level(c.conf.LogLevel)})).With(
		"cniName", "sriov-cni", "command", command, "containerID", args.ContainerID, "netns", args.Netns, "ifname", args.IfName))
	if err := errors.Join(confErr, c.nodeErr, logErr); err != nil {
		slog.Warn("configuration of the network, the node or the log is not followed", "err", err)
	}
	var err error
	c.host, err = vf.Open(p.Root, node)
	return c, err
}

// level parses logLevel. An unknown level means info, for it is no reason to keep a
// pod from starting.
func level(text string) slog.Level {
	switch strings.ToLower(text) {
	case "debug":
		return slog.LevelDebug
	case "warning":
		return slog.LevelWarn
	case "error", "panic":
		return slog.LevelError
	}
	return slog.LevelInfo
}

func (c *call) repairer() repair.Repairer { return repair.Repairer{Host: c.host, Store: c.store} }

func (c *call) attachment() state.Attachment {
	return state.Attachment{ContainerID: c.ContainerID, IfName: c.IfName}
}

// lock locks a VF until the process exits; the wait is bounded. If the call has the
// lock already, it does nothing: GC may release two attachments that name the same VF.
func (c *call) lock(ctx context.Context, a libsriov.Address) error {
	if c.locked[a] {
		return nil
	}
	err := c.store.Lock(ctx, a)
	c.locked[a] = err == nil
	return err
}
