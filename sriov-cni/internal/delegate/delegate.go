// SPDX-License-Identifier: Apache-2.0

// Package delegate runs another CNI plugin, such as the network's IPAM plugin, as the
// specification's section "Plugin Delegation" asks for
// (https://www.cni.dev/docs/spec/#section-4-plugin-delegation).
//
// libcni's package invoke does the same and brings OpenTelemetry, a third of the program,
// since v1.3.1.
package delegate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
)

const (
	// busyRetry is the pause before a program that is being written is tried again.
	busyRetry = 20 * time.Millisecond
	// outputDelay is how long a process that the plugin left behind may hold its output open.
	outputDelay = 500 * time.Millisecond
	// maxStderr is how much of what a plugin said on stderr an error repeats, from its end.
	maxStderr = 1 << 10 // bytes
	// longestName is that of a file.
	longestName = 255 // bytes
	// maxStdout is how long a result may be.
	maxStdout = 1 << 20 // bytes
	// nowhere is the working directory of every plugin, in which no file can be made: what a
	// network names without a leading slash is not a file of the node.
	nowhere = "/proc/self/fdinfo"
)

// Limits is how long a plugin may take for a command. By default kubelet gives its runtime
// four minutes to start a pod's sandbox and two to end it, of which ADD's undoing and DEL's
// bringing back of the VF need their part. Only tests change it.
var Limits = map[string]time.Duration{
	"ADD": 150 * time.Second, "DEL": 75 * time.Second, "CHECK": 75 * time.Second, "GC": 75 * time.Second, "STATUS": 75 * time.Second,
}

// NotFoundError says that no directory of CNI_PATH has a plugin, for certain.
type NotFoundError string

func (e NotFoundError) Error() string { return string(e) }

// Find returns the path of a plugin in one of the directories of CNI_PATH. The error is a
// NotFoundError unless a directory could not be looked into.
func Find(plugin string) (string, error) {
	path := os.Getenv("CNI_PATH")
	if plugin == "" || plugin != filepath.Base(plugin) || plugin == ".." || plugin == "." || len(plugin) > longestName || strings.Contains(plugin, "\x00") {
		return "", NotFoundError(fmt.Sprintf("invalid plugin name %.60q: want the name of a program in a directory of CNI_PATH", plugin))
	}
	var unknown []error
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, plugin)
		switch info, err := os.Stat(file); {
		case err == nil && info.Mode().IsRegular():
			return filepath.Abs(file)
		case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
			unknown = append(unknown, err)
		}
	}
	if len(unknown) > 0 {
		return "", fmt.Errorf("failed to find plugin %q in path %q: %w", plugin, path, errors.Join(unknown...))
	}
	return "", NotFoundError(fmt.Sprintf("failed to find plugin %q in path %q", plugin, path))
}

// Nested is set in the environment of every plugin that this one runs. By it a
// configuration that names this plugin as its own IPAM plugin is noticed.
const Nested = "SRIOV_CNI_DELEGATE"

// Run runs a plugin of CNI_PATH for a command and returns what it printed. It gets the
// environment of this call with CNI_COMMAND, and the further variables, replaced, and is
// stopped when Limits says so. An error that the plugin reported is a *types.Error.
func Run(ctx context.Context, plugin, command string, conf []byte, env ...string) ([]byte, error) {
	path, err := Find(plugin)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, Limits[command], fmt.Errorf("it took longer than %v", Limits[command]))
	defer cancel()
	for {
		var stdout head
		var stderr tail
		cmd := exec.CommandContext(ctx, path)
		cmd.Env = append(append(os.Environ(), "CNI_COMMAND="+command, Nested+"=1"), env...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(conf), &stdout, &stderr
		cmd.WaitDelay, cmd.Dir = outputDelay, nowhere
		err := cmd.Run()
		switch {
		case stdout.err != nil:
			return nil, stdout.err
		case err == nil, errors.Is(err, exec.ErrWaitDelay):
			return stdout.text, nil
		case !errors.Is(err, syscall.ETXTBSY):
			return nil, failure(ctx, err, stdout.text, string(stderr))
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(busyRetry):
		}
	}
}

// head keeps what is written to it, up to maxStdout.
type head struct {
	text []byte
	err  error // it was longer
}

func (h *head) Write(p []byte) (int, error) {
	if len(h.text)+len(p) > maxStdout {
		h.err = fmt.Errorf("plugin printed more than %d bytes", maxStdout)
		return 0, h.err
	}
	h.text = append(h.text, p...)
	return len(p), nil
}

// tail keeps the last maxStderr bytes that are written to it.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p[max(0, len(p)-maxStderr):]...)
	*t = slices.Delete(*t, 0, max(0, len(*t)-maxStderr))
	return len(p), nil
}

// failure is what a plugin reported, or how it ended without a report.
func failure(ctx context.Context, err error, stdout []byte, stderr string) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("plugin was stopped: %w", cause)
	}
	var reported types.Error
	if len(stdout) > 0 && json.Unmarshal(stdout, &reported) == nil && (reported.Code != 0 || reported.Msg != "") {
		return &reported
	}
	if stderr = strings.TrimSpace(stderr); stderr != "" {
		stderr = strings.ToValidUTF8(stderr, "")
		return fmt.Errorf("plugin failed without a CNI error: %w: %q", err, stderr)
	}
	return fmt.Errorf("plugin failed without a CNI error: %w", err)
}

// Add runs a plugin for ADD and returns its result in the current version. A result
// without a version is of the configuration's, which is 0.1.0 where it says none.
func Add(ctx context.Context, plugin string, conf []byte) (*types100.Result, error) {
	out, err := Run(ctx, plugin, "ADD", conf)
	if err != nil {
		return nil, err
	}
	return Parse(conf, out)
}

// Parse reads the result of a plugin that was given a configuration.
func Parse(conf, out []byte) (*types100.Result, error) {
	if err := CheckResult(out); err != nil {
		return nil, fmt.Errorf("result of the plugin: %w", err)
	}
	var have, want struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(conf, &want); err != nil {
		return nil, fmt.Errorf("version of the configuration: %w", err)
	}
	if err := json.Unmarshal(out, &have); err != nil {
		return nil, fmt.Errorf("result of the plugin: %w", err)
	}
	version := have.CNIVersion
	if version == "" {
		version = want.CNIVersion
	}
	if version == "" {
		version = "0.1.0"
	}
	if have.CNIVersion == "" {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(out, &members); err != nil {
			return nil, fmt.Errorf("result of the plugin: %w", err)
		}
		if members == nil { // it printed null
			members = map[string]json.RawMessage{}
		}
		members["cniVersion"], _ = json.Marshal(version)
		var err error
		if out, err = json.Marshal(members); err != nil {
			return nil, err
		}
	}
	result, err := create.Create(version, out)
	if err != nil {
		return nil, fmt.Errorf("result of the plugin: %w", err)
	}
	return types100.NewResultFromResult(result)
}

// CheckResult rejects a result that has null in a list, in the place of an
// address, a route or an interface: the library's conversions would follow it as
// a pointer.
func CheckResult(result []byte) error {
	var v any
	if err := json.Unmarshal(result, &v); err != nil {
		return err
	}
	return checkLists("", v)
}

func checkLists(path string, v any) error {
	switch v := v.(type) {
	case map[string]any:
		for key, member := range v {
			if err := checkLists(strings.TrimPrefix(path+"."+key, "."), member); err != nil {
				return err
			}
		}
	case []any:
		for i, member := range v {
			at := fmt.Sprintf("%s[%d]", path, i)
			if member == nil {
				return fmt.Errorf("invalid %.200s: null", at)
			}
			if err := checkLists(at, member); err != nil {
				return err
			}
		}
	}
	return nil
}
