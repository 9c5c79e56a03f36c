// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
	"github.com/sriovkit/sriovkit/multus-shim/rawjson"
)

var errMissing = errors.New("is not installed")

// Runner finds and runs plugins.
type Runner struct {
	Path    []string      // directories with plugins, first match wins; also their CNI_PATH
	Timeout time.Duration // for one command of one attachment, all plugins together
}

// Add runs the chain and returns the result of its last plugin, in the version
// the plugin chose, and how many plugins of the chain were started. An error leaves to the
// caller to run Del of these: of one that cannot be started Del would fail, too.
func (r Runner) Add(ctx context.Context, c Container, a Attachment) (result json.RawMessage, started int, err error) {
	plugins, err := a.parse()
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := r.bound(ctx)
	defer cancel()
	result = a.first(nil)
	for i, p := range plugins {
		out, err := r.exec(ctx, "ADD", c, a, p, a.stdin(p, rawjson.Member{Key: "prevResult", Value: result}))
		if errors.Is(err, errNotStarted) {
			return nil, i, err
		}
		if err != nil {
			return nil, i + 1, err
		}
		if result, err = a.result(out); err != nil {
			return nil, i + 1, fmt.Errorf("plugin %s: result of ADD: %w", p.Type, err)
		}
	}
	return result, len(plugins), nil
}

// ErrUnable: what keeps a chain from being detached is nothing but plugins that are not there,
// or that this machine cannot run. Add does not run them either.
var ErrUnable = errors.New("the plugin cannot be run here")

// Del runs the chain backwards with the result of Add, nil if there is none.
// Every plugin is run, also after one that failed.
func (r Runner) Del(ctx context.Context, c Container, a Attachment, result json.RawMessage) error {
	plugins, err := a.parse()
	if err != nil {
		return err
	}
	ctx, cancel := r.bound(ctx)
	defer cancel()
	if !a.AtLeast("0.4.0") { // prevResult came to DEL with this version
		result = nil
	}
	var errs []error
	unable := true
	for _, p := range slices.Backward(plugins) {
		_, err := r.exec(ctx, "DEL", c, a, p, a.stdin(p, rawjson.Member{Key: "prevResult", Value: a.first(result)}))
		unable = unable && (err == nil || errors.Is(err, errMissing) || errors.Is(err, errNotStarted) && isForGood(err))
		errs = append(errs, err)
	}
	err = errors.Join(errs...)
	if err != nil && unable {
		return fmt.Errorf("%w: %w", ErrUnable, err)
	}
	return err
}

// isForGood reports whether a plugin cannot be started by any later try either, as opposed to a
// lack of memory or processes.
func isForGood(err error) bool {
	return errors.Is(err, syscall.ENOEXEC) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ELIBBAD)
}

// Check runs the chain's CHECK with the result of Add. A network that does not
// know CHECK, or does not want it, passes.
func (r Runner) Check(ctx context.Context, c Container, a Attachment, result json.RawMessage) error {
	if a.DisableCheck || !a.AtLeast("0.4.0") {
		return nil
	}
	plugins, err := a.parse()
	if err != nil {
		return err
	}
	ctx, cancel := r.bound(ctx)
	defer cancel()
	for _, p := range plugins {
		if _, err := r.exec(ctx, "CHECK", c, a, p, a.stdin(p, rawjson.Member{Key: "prevResult", Value: result})); err != nil {
			return err
		}
	}
	return nil
}

// Status asks each plugin whether it could serve an ADD. Networks older than
// CNI 1.1.0 are asked for no more than the presence of their binaries.
func (r Runner) Status(ctx context.Context, a Attachment) error {
	plugins, err := a.parse()
	if err != nil {
		return err
	}
	ctx, cancel := r.bound(ctx)
	defer cancel()
	for _, p := range plugins {
		if !a.AtLeast("1.1.0") {
			if _, err := r.find(p); err != nil {
				return err
			}
			continue
		}
		if _, err := r.exec(ctx, "STATUS", Container{}, Attachment{}, p, a.stdin(p)); err != nil {
			return err
		}
	}
	return nil
}

// GC tells each plugin which attachments of the network still exist.
func (r Runner) GC(ctx context.Context, a Attachment, valid []conf.Attachment) error {
	if a.DisableGC || !a.AtLeast("1.1.0") {
		return nil
	}
	plugins, err := a.parse()
	if err != nil {
		return err
	}
	ctx, cancel := r.bound(ctx)
	defer cancel()
	if valid == nil {
		valid = []conf.Attachment{}
	}
	list := rawjson.Marshal(valid)
	var errs []error
	for _, p := range plugins {
		// The second key is a misprint of the specification that plugins read.
		_, err := r.exec(ctx, "GC", Container{}, Attachment{}, p, a.stdin(p,
			rawjson.Member{Key: "cni.dev/valid-attachments", Value: list},
			rawjson.Member{Key: "cni.dev/attachments", Value: list}))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Nested is set in the environment of every plugin that multus-shim runs, and so of
// whatever that runs in turn. A network's configuration is a tenant's text: a plugin that
// delegates would hand it to multus-shim as if it were the node's own.
const Nested = "MULTUS_SHIM_DELEGATE"

func (r Runner) exec(ctx context.Context, command string, c Container, a Attachment, p plugin, stdin json.RawMessage) ([]byte, error) {
	path, err := r.find(p)
	if err != nil {
		return nil, err
	}
	env := environ([]string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + c.ID, "CNI_NETNS=" + c.Netns,
		"CNI_IFNAME=" + a.Ifname, "CNI_ARGS=" + a.Args.String(), "CNI_PATH=" + strings.Join(r.Path, ":"), Nested + "=1",
	})
	return run(ctx, path, stdin, env)
}

// environ is the environment of this process with other values of some variables. One that was
// set twice would be read differently by different plugins.
func environ(values []string) []string {
	set := func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.ContainsFunc(values, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	}
	return append(slices.DeleteFunc(os.Environ(), set), values...)
}

// find returns the first executable file of the plugin's name in Path. The invoke
// package of libcni would do, and link a tracing stack into every ADD.
func (r Runner) find(p plugin) (string, error) {
	for _, dir := range r.Path {
		path := filepath.Join(dir, p.Type)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("plugin %q %w in %s", brief.Text(p.Type), errMissing, strings.Join(r.Path, ", "))
}

// Installed returns an error for a network with a plugin that is not there. Its DEL would
// fail as well, as long as the plugin is missing.
func (r Runner) Installed(a Attachment) error {
	plugins, err := a.parse()
	if err != nil {
		return err
	}
	for _, p := range plugins {
		if _, err := r.find(p); err != nil {
			return err
		}
	}
	return nil
}

func (r Runner) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, r.Timeout, fmt.Errorf("%w of %s", errDeadline, r.Timeout))
}

// first is what the chain's first plugin gets as prevResult.
func (a Attachment) first(result json.RawMessage) json.RawMessage {
	if result == nil && a.SeedResult {
		return rawjson.Object{{Key: "cniVersion", Value: rawjson.Marshal(a.version())}}.Bytes()
	}
	return result
}
