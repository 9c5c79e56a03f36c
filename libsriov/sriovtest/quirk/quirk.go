// SPDX-License-Identifier: Apache-2.0

// Package quirk makes the igb NICs of the emulated node behave as those of other
// drivers do: ice, i40e and iavf, qede. The kernel module sriov_quirks does it
// (e2e/artifact/quirks), a Profile says which of its parameters stand for which NIC and
// where in the kernel that was read.
//
// A whole suite runs on a profile with
//
//	make test-node SUITE=sriov-cni PROFILE=iavf-ice
//
// and a test sets single behaviours, on top of the profile it runs on, with Set.
package quirk

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ProfileVariable is the environment variable with the name of the profile that a
// suite runs on.
const ProfileVariable = "SRIOVKIT_PROFILE"

const parameters = "/sys/module/sriov_quirks/parameters"

// off is what every parameter is without any quirk.
var off = Settings{
	"only": "", "vf_mac_errno": "0", "vf_mac_refuse_same": "0", "vf_busy_errno": "0", "vf_reset_ms": "0", "pf_reset_ms": "0",
	"pf_resets": "", "pf_reset_same_mac": "0", "pf_wait_ms": "0", "pf_busy_errno": "0", "pf_report_wait_ms": "0",
	"pf_report_errno": "0", "pf_push_ms": "-1", "pf_zero_mac_errno": "0", "pf_lacks": "", "pf_adds": "", "pf_ignores": "",
	"pf_pretends": "", "pf_keeps": "", "pf_enforces": "",
}

// Current is the name of the profile that the tests run on, Plain if nothing says
// otherwise.
func Current() string {
	if name := os.Getenv(ProfileVariable); name != "" {
		return name
	}
	return Plain
}

// Use puts the node's NICs into a profile for the time of the test, instead of the one
// that the suite runs on.
func Use(t testing.TB, name string) {
	t.Helper()
	p, err := Named(name)
	require.NoError(t, err)
	change(t, p.Parameters())
}

// Set changes single parameters for the time of the test, on top of what they are. The
// parameter "only" limits all of them to some VFs, by PCI addresses of VFs or of PFs
// with all their VFs.
func Set(t testing.TB, s Settings) {
	t.Helper()
	change(t, s)
}

// Settled waits until no VF resets, and nothing of what a change on a PF leads to is
// still to come.
func Settled(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(filepath.Join(parameters, "resetting"))
		return err == nil && string(text) == "0\n"
	}, 5*time.Minute, 5*time.Millisecond, "a VF resets for ever, or the module sriov_quirks is not loaded")
}

// Parameters is every parameter of the module and its value in the profile.
func (p Profile) Parameters() Settings {
	all := maps.Clone(off)
	for _, b := range p.Behaviours {
		maps.Copy(all, b.Set)
	}
	return all
}

func change(t testing.TB, s Settings) {
	t.Helper()
	before := Settings{}
	for name := range s {
		text, err := os.ReadFile(filepath.Join(parameters, name))
		require.NoError(t, err, "is the module sriov_quirks loaded, as its suite asks for in e2e/node/suite.go?")
		before[name] = strings.TrimSpace(string(text))
	}
	t.Cleanup(func() { require.NoError(t, write(before)) })
	require.NoError(t, write(s))
}

func write(s Settings) error {
	for name, value := range s {
		if err := os.WriteFile(filepath.Join(parameters, name), []byte(value+"\n"), 0); err != nil {
			return fmt.Errorf("set %s to %q: %w", name, value, err)
		}
	}
	return nil
}
