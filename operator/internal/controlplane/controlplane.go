// SPDX-License-Identifier: Apache-2.0

// Package controlplane gives this module's tests a real API server without a dependency
// on module e2e, which would need a release whenever the operator has one. It runs e2e's
// program of the same checkout; outside of one there is nothing to run, and tests skip.
package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const lab = "github.com/sriovkit/sriovkit/e2e/cmd/lab"

// Config says what to run. The zero value is etcd and kube-apiserver.
type Config struct {
	Controllers bool     // adds kube-controller-manager and kube-scheduler
	Namespace   bool     // gives them a network namespace of their own
	ServerFlags []string // are added to kube-apiserver's
}

// ControlPlane is a running control plane.
type ControlPlane struct {
	Kubeconfig string     // path; its user is in system:masters
	Programs   string     // directory of kubectl and the others
	Namespace  *Namespace // nil is the tests' own

	cmd   *exec.Cmd
	stdin io.Closer
}

// run prepares a command of lab; the go command keeps the program once it is built.
func run(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", append([]string{"run", lab}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd
}

// Need skips a test outside the checkout's workspace, and while the control plane is not
// built, because that takes longer than a test may. With SRIOVKIT_E2E set, as make test
// does, it never skips.
func Need(t interface {
	Helper()
	Skip(args ...any)
	Context() context.Context
}) {
	t.Helper()
	_ = os.Getenv("SRIOVKIT_SOURCES") // programs read what the test cache does not see
	if os.Getenv("SRIOVKIT_E2E") != "" {
		return
	}
	if err := exec.CommandContext(t.Context(), "go", "list", lab).Run(); err != nil {
		t.Skip("needs the workspace of a checkout of sriovkit")
	}
	if out, err := run(t.Context(), "controlplane", "-built").CombinedOutput(); err != nil {
		t.Skip(strings.TrimSpace(string(out)))
	}
}

// Start starts a control plane and returns when it serves. It ends with the tests, however
// they end: it goes when the other end of its standard input does.
func Start(ctx context.Context, config Config) (*ControlPlane, error) {
	args := []string{"controlplane", fmt.Sprintf("-controllers=%t", config.Controllers), fmt.Sprintf("-namespace=%t", config.Namespace)}
	c := &ControlPlane{cmd: run(context.Background(), append(append(args, "--"), config.ServerFlags...)...)}
	var stderr bytes.Buffer
	c.cmd.Stderr = &stderr
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { c.stdin.Close() })()
	var ready struct{ Kubeconfig, Programs, Namespace string }
	if err := json.NewDecoder(stdout).Decode(&ready); err != nil {
		return nil, fmt.Errorf("start the control plane: %w\n%s", errors.Join(err, c.Close()), &stderr)
	}
	c.Kubeconfig, c.Programs = ready.Kubeconfig, ready.Programs
	if ready.Namespace != "" {
		c.Namespace = &Namespace{path: ready.Namespace}
	}
	return c, nil
}

// Close ends all programs and returns when they are gone.
func (c *ControlPlane) Close() error {
	return errors.Join(c.stdin.Close(), c.cmd.Wait())
}

// Programs returns the directory of kubectl and the others, and builds them if need be.
func Programs(ctx context.Context) (string, error) {
	cmd := run(ctx, "controlplane", "-programs")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// Kubectl runs kubectl as administrator and returns what it prints. Input may be nil.
func (c *ControlPlane) Kubectl(ctx context.Context, input io.Reader, args ...string) (string, error) {
	cmd := c.Namespace.Command(ctx, filepath.Join(c.Programs, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}
