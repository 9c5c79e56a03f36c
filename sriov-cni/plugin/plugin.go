// Package plugin is the sriov CNI plugin: it gives a pod one SR-IOV virtual
// function, in ADD, and takes it back, in DEL, whatever happens in between.
//
// https://www.cni.dev/docs/spec/ says what each command is to do. The package
// works on sysfs (facts), rtnetlink (the interface, and what the PF enforces
// for the VF) and a state directory (see store). It needs root in the initial
// network and PID namespaces. It never renames an interface there, never
// changes a driver, and never touches a VF that another pod has.
//
// One rule carries it: before anything changes, a journal of how things were is
// on disk, and one routine (planRepair, recoverVF) brings a VF from whatever it
// finds to what the journal says. A failed ADD, DEL, GC and the ADD of the next
// pod all call it.
package plugin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/libsriov"
)

// Plugin is the plugin on one host.
type Plugin struct {
	Root     string // of sysfs and proc; "/" but in tests
	StateDir string
	Stdout   io.Writer // takes the result, one JSON document
	Stderr   io.Writer // takes the log, unless the configuration names a file

	host   *libsriov.Host
	node   nodeConfig
	locked map[libsriov.Address]bool // the VFs that this call has locked
}

// DefaultStateDir is where state is kept. The plugin that this one replaces
// uses it too.
const DefaultStateDir = "/var/lib/cni/sriov"

// lockTimeout is how long a call waits for another one on the same VF.
const lockTimeout = 60 * time.Second

// Funcs are the CNI commands. Their errors are *types.Error.
func (p *Plugin) Funcs(ctx context.Context) skel.CNIFuncs {
	wrap := func(command string, call func(context.Context, *skel.CmdArgs, conf) error) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error {
			c, err := decodeBasics(args.StdinData)
			if err == nil {
				ctx := p.withLogger(ctx, command, args, c)
				if p.host, err = libsriov.Open(p.Root); err == nil {
					if err = call(ctx, args, c); err != nil {
						log(ctx).Error("command failed", "err", err)
					}
				}
			}
			return toCNI(err)
		}
	}
	return skel.CNIFuncs{
		Add: wrap("ADD", p.add), Del: wrap("DEL", p.del), Check: wrap("CHECK", p.check),
		GC: wrap("GC", p.gc), Status: wrap("STATUS", p.status),
	}
}

func (p *Plugin) store() store { return store{dir: p.StateDir} }

func (p *Plugin) path(name string) string { return filepath.Join(p.Root, name) }

// lock takes the lock of a VF, with a bound on the wait. The call may have it
// already: two of the attachments that GC collects may name one VF.
func (p *Plugin) lock(ctx context.Context, a libsriov.Address) error {
	if p.locked[a] {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lockTimeout, errors.New("waited "+lockTimeout.String()))
	defer cancel()
	err := p.store().lock(ctx, a)
	if err == nil {
		if p.locked == nil {
			p.locked = map[libsriov.Address]bool{}
		}
		p.locked[a] = true
	}
	return err
}

type loggerKey struct{}

// log is the logger of the call that ctx belongs to.
func log(ctx context.Context) *slog.Logger {
	if l, ok := ctx.Value(loggerKey{}).(*slog.Logger); ok {
		return l
	}
	return slog.New(slog.DiscardHandler)
}

// withLogger makes the call's logger as the configuration asks. Values it does
// not understand must not keep a pod from starting: they mean info.
func (p *Plugin) withLogger(ctx context.Context, command string, args *skel.CmdArgs, c conf) context.Context {
	level := slog.LevelInfo
	switch strings.ToLower(c.LogLevel) {
	case "debug":
		level = slog.LevelDebug
	case "warning":
		level = slog.LevelWarn
	case "error", "panic":
		level = slog.LevelError
	}
	w := p.Stderr
	var problems []error
	var err error
	if p.node, err = p.readNodeConfig(); err != nil {
		problems = append(problems, err)
	}
	if c.LogFile != "" {
		if file, err := openLog(p.path(p.node.LogDirectory), c.LogFile); err == nil {
			w = file
		} else {
			problems = append(problems, err)
		}
	}
	l := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})).With("cniName", "sriov-cni", "command", command,
		"containerID", args.ContainerID, "netns", args.Netns, "ifname", args.IfName)
	for _, err := range problems {
		l.Warn("configuration of the log or of the node is not followed", "err", err)
	}
	return context.WithValue(ctx, loggerKey{}, l)
}

// busy is a failure that passes: the runtime is to try again later.
func busy(err error, hint string) error {
	return &failure{Code: types.ErrTryAgainLater, Err: err, Hint: hint}
}
