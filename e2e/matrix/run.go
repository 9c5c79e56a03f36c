// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest/quirk"
)

// Plan is what to run on each combination.
type Plan struct {
	Checkout string
	Suites   []string // of package node
	Cluster  string   // regular expression of tests of package features; "" is none
	Out      io.Writer
}

// Combination is what nodes and clusters are made of; empty is the default.
type Combination struct {
	Kernel, Kubernetes, Containerd string
	Profile                        string // of libsriov/sriovtest/quirk, for tests in nodes
}

func (c Combination) String() string {
	var named []string
	for _, v := range [][2]string{{"kernel", c.Kernel}, {"Kubernetes", c.Kubernetes}, {"containerd", c.Containerd}, {"NIC", c.Profile}} {
		if v[1] != "" {
			named = append(named, v[0]+" "+v[1])
		}
	}
	return cmp.Or(strings.Join(named, ", "), "the default versions")
}

// Check is an error if there is no such combination.
func (c Combination) Check(ctx context.Context) error {
	if err := c.choose(); err != nil {
		return err
	}
	_, _, err := artifact.Versions(ctx)
	if c.Profile != "" {
		_, unknown := quirk.Named(c.Profile)
		err = errors.Join(err, unknown)
	}
	return errors.Join(artifact.CheckKernel(""), err)
}

// choose makes all that this process runs use these versions.
func (c Combination) choose() error {
	return errors.Join(os.Setenv(artifact.KernelVariable, c.Kernel), os.Setenv(artifact.KubernetesVariable, c.Kubernetes), os.Setenv(artifact.ContainerdVariable, c.Containerd))
}

// Run tries one combination. Tests that fail are in the row; an error is that there is
// nothing to tell of some, and the row has the others.
func (p Plan) Run(ctx context.Context, c Combination) (Row, error) {
	if err := c.choose(); err != nil {
		return Row{}, err
	}
	row := Row{NIC: "igb", Date: time.Now().Format(time.DateOnly)}
	if c.Profile != "" {
		row.NIC += " as " + c.Profile
	}
	var suites []string
	var failures []error
	for _, s := range p.Suites {
		t, err := p.tests(ctx, "node", "./node", "-run", "^TestNodeSuites", "-args", "-suite", s, "-profile", c.Profile)
		if err != nil {
			failures = append(failures, fmt.Errorf("suite %s: %w", s, err))
		}
		if ctx.Err() != nil {
			return Row{}, err
		} else if err != nil {
			continue
		}
		row.Kernel = t.kernel
		suites = append(suites, s+" "+t.verdict())
	}
	row.Node = strings.Join(suites, between)
	if p.Cluster == "" {
		return row, errors.Join(failures...)
	}
	t, err := p.tests(ctx, "cluster", "./features", "-run", p.Cluster)
	if err != nil {
		return row, errors.Join(append(failures, fmt.Errorf("cluster: %w", err))...)
	}
	row.Kernel, row.Cluster = t.kernel, t.verdict()
	row.Kubernetes, row.Containerd, err = artifact.Versions(ctx)
	return row, errors.Join(append(failures, err)...)
}

func (p Plan) tests(ctx context.Context, tier, pkg string, args ...string) (*tally, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-count=1", "-v", "-timeout", "90m", pkg}, args...)...)
	cmd.Dir = p.Checkout + "/e2e"
	cmd.Env = append(os.Environ(), "SRIOVKIT_E2E="+tier)
	// go test does not hand signals on. Nodes end with the process that booted them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	t := &tally{top: tier == "cluster"}
	cmd.Stdout = io.MultiWriter(p.Out, t)
	cmd.Stderr = cmd.Stdout
	return t, t.judge(ctx, cmd.Run())
}

// judge says whether there is something to tell after go test has ended: a crash or a time
// limit, which no test has failed by, are not.
func (t *tally) judge(ctx context.Context, err error) error {
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &exit) && len(t.failed) > 0:
		return nil
	case err != nil && t.passed > 0:
		return fmt.Errorf("%w, and of %d tests none has failed: others did not end", err, t.passed)
	case err == nil && t.passed+len(t.failed) == 0:
		return errors.New("no test ran")
	}
	return err
}

// tally counts the tests of the output that is written to it.
type tally struct {
	top    bool // tests of go test itself, not those in a node
	passed int
	failed []string
	kernel string
	rest   []byte
}

var (
	result = regexp.MustCompile(`^(?:([^ ].*): )?--- (PASS|FAIL): (Test(?:Node|Cluster)\w+)`)
	kernel = regexp.MustCompile(`: up after [\d.]+s, kernel (\S+),`)
)

func (t *tally) Write(p []byte) (int, error) {
	t.rest = append(t.rest, p...)
	for {
		line, rest, ok := bytes.Cut(t.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		t.rest = rest
		t.count(string(line))
	}
}

func (t *tally) count(line string) {
	if m := kernel.FindStringSubmatch(line); m != nil {
		t.kernel = m[1]
	}
	m := result.FindStringSubmatch(line)
	switch {
	case m == nil || t.top != (m[1] == ""):
	case m[2] == "PASS":
		t.passed++
	default:
		t.failed = append(t.failed, m[3])
	}
}

// verdict is "12" for as many tests that passed, or "11 of 12, not TestNodeX".
func (t *tally) verdict() string {
	if len(t.failed) == 0 {
		return fmt.Sprint(t.passed)
	}
	return fmt.Sprintf("%d of %d, not %s", t.passed, t.passed+len(t.failed), strings.Join(t.failed, ", "))
}
