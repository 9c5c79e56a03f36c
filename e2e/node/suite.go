// Package node runs the tests that need SR-IOV hardware, those named TestNode…,
// inside emulated nodes. A suite is a directory of packages; each suite gets a
// freshly booted node, so that no suite sees what another left behind.
//
// In the node the tests run as root with SRIOVKIT_NODE=1, in a directory that
// holds their package's testdata, with the suite's binaries on the PATH. PFs are
// igb functions without VFs; nothing is configured. A test that skips there is a
// failure, and so is a suite without any test.
package node

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/vm"
)

// Suite is a set of test packages and what they need around them.
type Suite struct {
	Name string
	// Dir, relative to the checkout, holds the packages: all below it that
	// declare a TestNode function.
	Dir string
	// Binaries are commands the tests run: name on the PATH to package, relative
	// to Dir, such as "./cmd/sriov".
	Binaries map[string]string
	// Files are further files, relative to Dir, and their absolute paths on the node.
	Files map[string]string
	// Node is the hardware, including the kernel modules to load.
	Node vm.Config
}

// Suites is every suite; a module adds itself here when it has its first
// TestNode function.
var Suites = []Suite{
	{Name: "libsriov", Dir: "libsriov", Node: vm.Config{Modules: simulators}},
	{Name: "operator", Dir: "operator/internal/node"},
	{Name: "hardware", Dir: "e2e/node/hardware", Node: vm.Config{Modules: simulators}},
	{Name: "sriov-cni", Dir: "sriov-cni", Node: vm.Config{Modules: append([]string{"dummy"}, simulators...)}, Binaries: map[string]string{
		"sriov": "./cmd/sriov", "host-local": "github.com/containernetworking/plugins/plugins/ipam/host-local",
	}},
}

// simulators give what igb lacks: netdevsim link state, minimum rates, 802.1ad
// and switchdev; vdpa_sim a vDPA management device.
var simulators = []string{"netdevsim", "vdpa_sim_net", "vhost_vdpa", "virtio_vdpa"}

// guestDir is where a suite lives on the node.
const guestDir = "/var/tmp/suite"

// testPackage is a Go package with node tests.
type testPackage struct {
	path string // import path
	dir  string
	name string // last elements of the path, unique in the suite
}

// packages finds the packages of s that declare TestNode functions.
func (s Suite) packages(ctx context.Context, checkout string) ([]testPackage, error) {
	dir := filepath.Join(checkout, s.Dir)
	cmd := exec.CommandContext(ctx, "go", "list", "-f", "{{.ImportPath}}\t{{.Dir}}", "./...")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages below %s: %w", dir, err)
	}
	var found []testPackage
	for line := range strings.Lines(string(out)) {
		path, pkgDir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		has, err := declaresNodeTest(pkgDir)
		if err != nil {
			return nil, err
		}
		if has {
			name := strings.ReplaceAll(strings.TrimPrefix(pkgDir, filepath.Dir(dir)+"/"), "/", "-")
			found = append(found, testPackage{path: path, dir: pkgDir, name: name})
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no package below %s declares a function TestNode…", dir)
	}
	return found, nil
}

var nodeTest = regexp.MustCompile(`(?m)^func TestNode\w*\(`)

func declaresNodeTest(dir string) (bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return false, err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return false, err
		}
		if nodeTest.Match(text) {
			return true, nil
		}
	}
	return false, nil
}

// build fills dir with what the node needs: bin/ and, for each test package, a
// directory with the test binary and testdata.
func (s Suite) build(ctx context.Context, checkout, dir string, packages []testPackage) error {
	run := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = filepath.Join(checkout, s.Dir)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	for _, p := range packages {
		if err := run("test", "-c", "-o", filepath.Join(dir, p.name, "package.test"), p.path); err != nil {
			return err
		}
		err := os.CopyFS(filepath.Join(dir, p.name, "testdata"), os.DirFS(filepath.Join(p.dir, "testdata")))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("copy testdata of %s: %w", p.path, err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		return err
	}
	for name, pkg := range s.Binaries {
		if err := run("build", "-o", filepath.Join(dir, "bin", name), pkg); err != nil {
			return err
		}
	}
	return nil
}

// Run boots a node and runs the tests of s whose names match pattern, a regular
// expression as for go test -run; empty is all of them. Test output goes to out
// as it appears.
func (s Suite) Run(ctx context.Context, checkout, pattern string, out io.Writer) (err error) {
	packages, err := s.packages(ctx, checkout)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sriovkit-suite-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := s.build(ctx, checkout, dir, packages); err != nil {
		return err
	}
	v, err := vm.Boot(ctx, s.Node)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if err := v.Push(ctx, dir, guestDir); err != nil {
		return err
	}
	for from, to := range s.Files {
		if err := v.Push(ctx, filepath.Join(checkout, s.Dir, from), to); err != nil {
			return err
		}
	}
	if pattern == "" {
		pattern = "^TestNode"
	}
	var total summary
	var failures []error
	for _, p := range packages {
		fmt.Fprintf(out, "== %s on %s\n", p.path, v.Name)
		sum, err := runPackage(ctx, v, p, pattern, out)
		total.add(sum)
		var failed *vm.ExitError
		switch {
		case errors.As(err, &failed):
			failures = append(failures, fmt.Errorf("%s: tests failed, exit status %d", p.path, failed.Status))
		case err != nil:
			return fmt.Errorf("%s: %w\n%s", p.path, err, v.Trouble())
		}
	}
	return errors.Join(append(failures, total.verdict())...)
}

func runPackage(ctx context.Context, v *vm.VM, p testPackage, pattern string, out io.Writer) (summary, error) {
	counter := &counter{}
	err := v.Run(ctx, vm.Command{
		Args: []string{"./package.test", "-test.v", "-test.run", pattern, "-test.timeout", "15m"},
		Dir:  filepath.Join(guestDir, p.name),
		Env: []string{
			"SRIOVKIT_NODE=1",
			"PATH=" + guestDir + "/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		},
		Stdout: io.MultiWriter(out, counter),
		Stderr: out,
	})
	return counter.sum, err
}

// summary counts top-level tests and, of skips, all: a skipped subtest is
// hardware that was promised and is not there.
type summary struct {
	run     int
	skipped []string
}

func (s *summary) add(o summary) {
	s.run += o.run
	s.skipped = append(s.skipped, o.skipped...)
}

func (s summary) verdict() error {
	switch {
	case s.run == 0:
		return errors.New("no test ran")
	case len(s.skipped) > 0:
		return fmt.Errorf("skipped on a node that has everything: %s", strings.Join(s.skipped, ", "))
	}
	return nil
}

// counter reads the output of a test binary run with -test.v.
type counter struct {
	sum  summary
	rest []byte
}

func (c *counter) Write(p []byte) (int, error) {
	c.rest = append(c.rest, p...)
	cut := bytes.LastIndexByte(c.rest, '\n') + 1
	lines := bufio.NewScanner(bytes.NewReader(c.rest[:cut]))
	lines.Buffer(nil, cut+1)
	for lines.Scan() {
		c.line(lines.Text())
	}
	c.rest = append([]byte(nil), c.rest[cut:]...)
	return len(p), nil
}

func (c *counter) line(line string) {
	result, ok := strings.CutPrefix(strings.TrimLeft(line, " "), "--- ")
	if !ok {
		return
	}
	verdict, name, _ := strings.Cut(result, ": ")
	name, _, _ = strings.Cut(name, " (")
	if verdict == "SKIP" {
		c.sum.skipped = append(c.sum.skipped, name)
	}
	if !strings.HasPrefix(line, " ") && (verdict == "PASS" || verdict == "FAIL") {
		c.sum.run++
	}
}
