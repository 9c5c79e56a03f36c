// SPDX-License-Identifier: Apache-2.0

// Package plugin is the sriov CNI plugin: it gives a pod one SR-IOV virtual function in ADD
// and takes it back in DEL, also after a crash of either.
//
// https://www.cni.dev/docs/spec/ says what each command is to do. The plugin works on sysfs
// (package vf), rtnetlink (attach, repair) and a state directory (state). It needs root in the
// initial network and PID namespaces. It never renames an interface there, never changes a
// driver, and never touches a VF that another pod has.
//
// Before anything changes, a journal of how things were is on disk, and one routine (package
// repair) brings a VF from whatever it finds to what the journal says. A failed ADD, DEL, GC
// and the ADD of the next pod all call it.
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

// Plugin is the plugin on one host.
type Plugin struct {
	Root     string // of sysfs and proc; "/" but in tests
	StateDir string
	Stdout   io.Writer // takes the result, one JSON document
	Stderr   io.Writer // takes the log, unless the configuration names a file
}

// DefaultStateDir is where state is kept. The plugin that this one replaces
// uses it too.
const DefaultStateDir = "/var/lib/cni/sriov"

// call is one CNI call.
type call struct {
	*Plugin
	*skel.CmdArgs
	host    *vf.Host
	nodeErr error // why the node's configuration is not in force; DEL goes on without
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

// nested answers a call that this plugin made itself. It never gives anything in one,
// so there is nothing to take back.
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

// level reads a level of the log. One that it does not understand must not keep
// a pod from starting: it means info.
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

// lock takes the lock of a VF, with a bound on the wait. The call may have it
// already: two of the attachments that GC collects may name one VF.
func (c *call) lock(ctx context.Context, a libsriov.Address) error {
	if c.locked[a] {
		return nil
	}
	err := c.store.Lock(ctx, a)
	c.locked[a] = err == nil
	return err
}
