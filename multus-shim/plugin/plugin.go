// SPDX-License-Identifier: Apache-2.0

// Package plugin is multus-shim as a CNI plugin: it looks up which networks a
// pod wants, plans all of them, and only then runs their plugins. One process
// per command, no daemon; DEL, CHECK and GC work from the record that ADD left.
package plugin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/delegate"
	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
	"github.com/sriovkit/sriovkit/multus-shim/kube"
	"github.com/sriovkit/sriovkit/multus-shim/record"
)

// CNI error codes beyond those of the types package: STATUS, CNI 1.1.0.
const errUnavailable = types.ErrPluginNotAvailable

// Plugin holds what the process gives to every command.
type Plugin struct {
	Getenv func(string) string
	Stdout io.Writer
	Stderr io.Writer
}

// Funcs binds the commands to a context that ends with the process.
func (p *Plugin) Funcs(ctx context.Context) skel.CNIFuncs {
	bind := func(command func(context.Context, *call) error) func(*skel.CmdArgs) error {
		return func(cmd *skel.CmdArgs) error {
			if p.Getenv(delegate.Nested) != "" {
				return nested(p.Getenv("CNI_COMMAND"))
			}
			c, err := p.begin(cmd)
			if err != nil {
				return cniError(err)
			}
			defer c.end()
			return cniError(c.logged(command(ctx, c)))
		}
	}
	return skel.CNIFuncs{
		Add: bind(add), Del: bind(del), Check: bind(check), GC: bind(gc),
		Status: func(cmd *skel.CmdArgs) error {
			err := bind(status)(cmd)
			var e *types.Error
			if errors.As(err, &e) && e.Code != errUnavailable && e.Code != types.ErrLimitedConnectivity {
				e = types.NewError(errUnavailable, e.Msg, e.Details)
			}
			if e == nil {
				return nil
			}
			return e
		},
	}
}

// nested answers a call that comes from a plugin which multus-shim itself runs, because a
// network's configuration names multus-shim. Its stdin is a tenant's and is not read. ADD fails;
// DEL succeeds, for nothing is ever attached like that.
func nested(command string) error {
	if command == "DEL" || command == "GC" {
		return nil
	}
	return cniError(coded(types.ErrInvalidNetworkConfig, errors.New("a network leads back to the meta plugin: no plugin of a network may run it, as its ipam.type or otherwise")))
}

// call is one command.
type call struct {
	*skel.CmdArgs
	conf   *conf.Conf
	args   conf.Args // CNI_ARGS, parsed
	pod    conf.Pod
	stdout io.Writer
	getenv func(string) string
	log    *slog.Logger
	store  record.Store
	runner delegate.Runner

	logFile *os.File
	client  *kube.Client
}

func (p *Plugin) begin(cmd *skel.CmdArgs) (*call, error) {
	c, err := conf.Parse(cmd.StdinData)
	if err != nil {
		return nil, coded(types.ErrInvalidNetworkConfig, err)
	}
	args, err := conf.ParseArgs(cmd.Args)
	if err != nil {
		return nil, coded(types.ErrInvalidEnvironmentVariables, err)
	}
	out := &call{
		CmdArgs: cmd, conf: c, args: args, pod: args.Pod(), stdout: p.Stdout, getenv: p.Getenv,
		store:  record.Store{Dir: c.CNIDir, Boot: bootID()},
		runner: delegate.Runner{Path: searchPath(c.BinDir, cmd.Path), Timeout: c.Timeout.Delegate},
	}
	out.openLog(p.Stderr)
	if len(c.Unknown) > 0 {
		out.log.Warn("unknown keys in the configuration", "keys", c.Unknown)
	}
	return out, nil
}

// openLog never fails a command: what cannot go to the file goes to stderr.
func (c *call) openLog(stderr io.Writer) {
	var outputs []io.Writer
	var fileErr error
	if path := c.conf.Log.File; path != "" {
		c.logFile, fileErr = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o600) // a pipe without a reader is not usable
		if fileErr == nil {
			outputs = append(outputs, c.logFile)
		}
	}
	if c.conf.Log.ToStderr || fileErr != nil {
		outputs = append(outputs, stderr)
	}
	c.log = slog.New(slog.NewTextHandler(io.MultiWriter(outputs...), &slog.HandlerOptions{Level: c.conf.Log.Level})).
		With("container", c.ContainerID, "pod", c.pod.String(), "command", c.getenv("CNI_COMMAND"))
	if fileErr != nil {
		c.log.Warn("log file is not usable", "err", fileErr)
	}
}

func (c *call) end() {
	if c.client != nil {
		c.client.Close()
	}
	if c.logFile != nil {
		_ = c.logFile.Close() // there is no log left to say that it failed
	}
}

// logged writes the one error line of a command.
func (c *call) logged(err error) error {
	if err != nil {
		c.log.Error("command failed", "err", brief.Cut(err.Error(), maxMessage))
	}
	return err
}

// api returns the client, nil when no API server is configured.
func (c *call) api() (*kube.Client, error) {
	if c.client != nil {
		return c.client, nil
	}
	var credentials *kube.Credentials
	var err error
	if c.conf.Kubeconfig != "" {
		credentials, err = kube.Load(c.conf.Kubeconfig)
	} else {
		credentials, _, err = kube.InCluster(c.getenv)
	}
	if err != nil || credentials == nil {
		return nil, err
	}
	c.client = kube.New(credentials)
	return c.client, nil
}

// lock serialises the commands of one container.
func (c *call) lock(ctx context.Context) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, c.conf.Timeout.Delegate)
	defer cancel()
	release, err = c.store.Lock(ctx, c.ContainerID)
	if err != nil {
		return nil, coded(types.ErrTryAgainLater, err)
	}
	return release, nil
}

// key names the record of this command's attachment.
func (c *call) key() string { return record.Key(c.ContainerID, c.IfName) }

func (c *call) container() delegate.Container {
	return delegate.Container{ID: c.ContainerID, Netns: c.Netns}
}

// bootID is "" where the kernel does not tell; then every boot is the same.
func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// searchPath is binDir and then CNI_PATH, each directory once.
func searchPath(binDir, cniPath string) []string {
	var dirs []string
	for _, dir := range append([]string{binDir}, filepath.SplitList(cniPath)...) {
		if dir != "" && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}
