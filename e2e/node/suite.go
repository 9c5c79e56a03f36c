// SPDX-License-Identifier: Apache-2.0

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
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/vm"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest/quirk"
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
	// Programs are programs of the components that the tests run, by name.
	Programs []string
	// Files are further files, relative to Dir, and their absolute paths on the node.
	Files map[string]string
	// Env names variables that the tests get from the caller's environment.
	Env []string
	// Profiles are those of sriovtest/quirk that the tests run on, one after the other;
	// empty is the plain one. A suite with profiles has the module sriov_quirks loaded.
	Profiles []string
	// Takes is about how long the suite runs on two quiet cores. Of suites side by side the
	// longest begin first, so that all end together.
	Takes time.Duration
	// Tests is the pattern of the tests to run where Run is given none; empty is all.
	Tests string
	// Node is the hardware, including the kernel modules to load. It is named after the
	// suite.
	Node vm.Config
}

// Suites is every suite; a module adds itself here when it has its first TestNode function.
var Suites = []Suite{
	sriovCNI,
	{Name: "operator", Takes: 4 * time.Minute, Dir: "operator/internal/node", Node: vm.Config{VirtioPFs: 1, Modules: []string{"rdma_rxe", "virtio_net"}, Packages: artifact.Managers}},
	{Name: "libsriov", Takes: 2 * time.Minute, Dir: "libsriov", Node: vm.Config{VirtioPFs: 1, Modules: simulators}},
	{Name: "hardware", Takes: 2 * time.Minute, Dir: "e2e/node/hardware", Node: vm.Config{VirtioPFs: 1, Modules: append([]string{quirks}, simulators...)}},
	{Name: "conformance", Takes: 4 * time.Minute, Dir: "e2e/conformance", Node: vm.Config{VirtioPFs: 1, Modules: append([]string{quirks, "bridge", "8021q"}, simulators...)}, Binaries: map[string]string{
		"sriov-conformance": "../cmd/sriov-conformance",
	}, Programs: []string{"sriov"}},
	{Name: "noiommu", Takes: time.Minute, Dir: "e2e/node/noiommu", Node: vm.Config{NoIOMMU: true, VFIONoIOMMU: true}},
	{Name: "device-plugin", Takes: time.Minute, Dir: "device-plugin", Node: vm.Config{VirtioPFs: 1, Modules: []string{"8021q", "bonding", "bridge", "virtio_net"}}},
}

// Again is further runs of tests of Suites, on other NICs.
var Again = []Suite{
	sriovCNI.on("sriov-cni-profiles", "^TestNodeQuirk", "iavf-ice", "iavf-i40e", "qede"),
}

// halves are the longest suite as two, which run side by side.
var halves = []Suite{
	sriovCNI.on("sriov-cni-a-m", "^TestNode[A-M]"),
	sriovCNI.on("sriov-cni-n-z", "^TestNode[N-Z]"),
}

// All is every run of every suite, the longest first.
func All() []Suite {
	all := slices.Concat(halves, Again)
	for _, s := range Suites {
		if s.Name != sriovCNI.Name {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b Suite) int { return cmp.Compare(b.Takes, a.Takes) })
	return all
}

// Named is the suite of that name, or the run of one.
func Named(name string) (Suite, bool) {
	all := slices.Concat(Suites, All())
	i := slices.IndexFunc(all, func(s Suite) bool { return s.Name == name })
	if i < 0 {
		return Suite{}, false
	}
	return all[i], true
}

// sriovCNI has the quirks loaded, which do nothing until a test asks for one.
var sriovCNI = Suite{
	Name: "sriov-cni", Takes: 14 * time.Minute, Dir: "sriov-cni", Env: []string{"SRIOVKIT_KILL"},
	Binaries: map[string]string{
		"sriov": "./cmd/sriov", "host-local": "github.com/containernetworking/plugins/plugins/ipam/host-local",
	},
	Node: vm.Config{PFs: 7, VirtioPFs: 1, Modules: append([]string{"dummy", "overlay", quirks}, simulators...)},
}

// on is the suite under another name, on other profiles, with those of its tests that
// match the pattern.
func (s Suite) on(name, tests string, profiles ...string) Suite {
	s.Name, s.Tests, s.Profiles = name, tests, profiles
	if tests != "" {
		s.Takes /= 2
	}
	return s
}

// On is the suite on one profile of sriovtest/quirk.
func (s Suite) On(profile string) Suite {
	if !slices.Contains(s.Node.Modules, quirks) {
		s.Node.Modules = append(slices.Clone(s.Node.Modules), quirks)
	}
	return s.on(s.Name+"-"+profile, "", profile)
}

// quirks is the module that makes igb NICs behave as others do.
const quirks = "sriov_quirks"

// simulators give what igb lacks: netdevsim link state, minimum rates, 802.1ad
// and switchdev; vdpa_sim and vp_vdpa vDPA management devices.
var simulators = []string{"netdevsim", "vdpa_sim_net", "vp_vdpa", "vhost_vdpa", "virtio_vdpa", "virtio_net"}

// guestDir is where a suite lives on the node.
const guestDir = "/var/tmp/suite"

// ErrNoTests: no test of the suite matches the pattern.
var ErrNoTests = errors.New("no matching test")

// errSilent: the tests on a node have not said anything for longer than any test is silent.
var errSilent = fmt.Errorf("nothing from the tests for %s", silence)

// silence is many times what the longest test without a word takes on a busy machine.
const silence = 10 * time.Minute

// Run boots a node and runs the tests of s whose names match pattern, a regular
// expression as for go test -run; empty is those of s.Tests. Test output goes to out
// as it appears, a Write for each line, which begins with the suite's name: suites
// may share out.
//
// A node that freezes, which emulated ones can, is said and replaced by another, once.
func (s Suite) Run(ctx context.Context, checkout, pattern string, out io.Writer) error {
	err := s.run(ctx, checkout, cmp.Or(pattern, s.Tests), out)
	if errors.Is(err, vm.ErrFrozen) {
		fmt.Fprintf(out, "%s: %v: again on a new node\n", s.Name, err)
		err = s.run(ctx, checkout, cmp.Or(pattern, s.Tests), out)
	}
	return err
}

func (s Suite) run(ctx context.Context, checkout, pattern string, out io.Writer) (err error) {
	packages, err := s.packages(ctx, checkout)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sriovkit-suite-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if packages, err = s.build(ctx, checkout, dir, pattern, packages); err != nil {
		return err
	}
	if len(packages) == 0 {
		return fmt.Errorf("suite %s: %w for %q", s.Name, ErrNoTests, pattern)
	}
	s.Node.Name = s.Name
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
	if len(s.Profiles) == 0 {
		return s.runPackages(ctx, v, packages, pattern, "", s.Name, out)
	}
	var failures []error
	for _, profile := range s.Profiles {
		if err := setProfile(ctx, v, profile); err != nil {
			return err
		}
		label := s.Name
		if len(s.Profiles) > 1 {
			label += " on " + profile
		}
		if err := s.runPackages(ctx, v, packages, pattern, profile, label, out); err != nil {
			failures = append(failures, fmt.Errorf("on %s: %w", profile, err))
		}
	}
	return errors.Join(failures...)
}

// setProfile makes the NICs of the node behave as the profile says.
func setProfile(ctx context.Context, v *vm.VM, name string) error {
	profile, err := quirk.Named(name)
	if err != nil {
		return err
	}
	script := "cd /sys/module/sriov_quirks/parameters\n"
	for parameter, value := range profile.Parameters() {
		script += fmt.Sprintf("echo '%s' > %s\n", value, parameter)
	}
	_, err = v.Output(ctx, "sh", "-ec", script)
	return err
}

// runPackages runs the tests of packages on the node as it is.
func (s Suite) runPackages(ctx context.Context, v *vm.VM, packages []testPackage, pattern, profile, label string, out io.Writer) error {
	say := func(line string) { fmt.Fprintf(out, "%s: %s\n", label, line) }
	var failures []error
	for _, p := range packages {
		say("== " + p.path)
		sum, err := s.runPackage(ctx, v, p, pattern, profile, say)
		var failed *vm.ExitError
		switch {
		case errors.As(err, &failed):
			failures = append(failures, fmt.Errorf("%s: tests failed, exit status %d: %s", p.path, failed.Status, strings.Join(sum.failed, "\n")))
		case err != nil:
			return fmt.Errorf("%s: %w\n%s", p.path, err, v.Trouble())
		default:
			if err := sum.verdict(len(p.tests)); err != nil {
				failures = append(failures, fmt.Errorf("%s: %w", p.path, err))
			}
		}
	}
	return errors.Join(failures...)
}

func (s Suite) runPackage(ctx context.Context, v *vm.VM, p testPackage, pattern, profile string, say func(line string)) (summary, error) {
	run := "^(" + strings.Join(p.tests, "|") + ")$"
	if _, subtests, ok := strings.Cut(pattern, "/"); ok {
		run += "/" + subtests
	}
	env := []string{
		"SRIOVKIT_NODE=1",
		quirk.ProfileVariable + "=" + profile,
		"PATH=" + guestDir + "/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	timeout := "45m" // three times what the longest takes beside other nodes; hangs are silent before
	for _, name := range s.Env {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
			timeout = "0" // asked for by hand: as long as it takes
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(silence, func() {
		text, err := v.Stuck(ctx)
		for line := range strings.Lines(text) {
			say(strings.TrimRight(line, "\r\n"))
		}
		if err == nil { // Go then prints what it waits for
			_, err = v.Output(ctx, "sh", "-c", `for p in /proc/[0-9]*; do [ "$(cat $p/comm)" = package.test ] && kill -QUIT ${p#/proc/}; done 2>/dev/null; sleep 30`)
		}
		cancel(errors.Join(errSilent, err))
	})
	defer silent.Stop()
	heard := func(line string) { silent.Reset(silence); say(line) }
	var sum summary
	stdout := lineWriter{each: func(line string) { sum.count(line); heard(line) }}
	stderr := lineWriter{each: heard}
	err := v.Run(ctx, vm.Command{
		Args:   []string{"./package.test", "-test.v", "-test.run", run, "-test.timeout", timeout},
		Dir:    filepath.Join(guestDir, p.name),
		Env:    env,
		Stdout: &stdout,
		Stderr: &stderr,
	})
	stdout.flush()
	stderr.flush()
	return sum, err
}
