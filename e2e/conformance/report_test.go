// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/link"
)

func TestReport(t *testing.T) {
	t.Parallel()
	r := &Report{Restored: true, Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	r.NIC = NIC{Name: "A | B", Driver: "igb", VFDriver: "igbvf", Kernel: "6.12", TotalVFs: 7}
	require.Equal(t, Pass, r.add(settingPrefix+"MAC", nil, time.Second).Verdict)
	c := r.add(settingPrefix+"trust", fmt.Errorf("wrapped: %w", refusal{fmt.Errorf("set trust: %w", syscall.EOPNOTSUPP)}), 0)
	require.Equal(t, Check{Name: "setting: trust", Verdict: Refused, Detail: "wrapped: set trust: operation not supported", Errno: "EOPNOTSUPP"}, c)
	require.Equal(t, Skipped, r.add(vfio, skip("not loaded"), 0).Verdict)
	c = r.add("trust", notice("may change it"), 0)
	require.Equal(t, Pass, c.Verdict)
	require.Equal(t, "may change it", c.Detail)
	r.add(pluginCycle, nil, 0)
	r.finish()
	require.Equal(t, Pass, r.Verdict)
	require.Equal(t, "| A / B | - | igb, igbvf | 6.12 | 7 | MAC | trust | - | - | skipped | pass | - | 2026-01-02 |", r.Row)
	require.Equal(t, strings.Count(RowHead, "|"), 2*strings.Count(r.Row, "|"), "cells of head and row")

	r.add(pluginKills, errors.New("left behind"), 0)
	r.finish()
	require.Equal(t, Fail, r.Verdict)
	require.Contains(t, r.Row, "| fail | plugin: DEL after kills | 2026")

	r = &Report{}
	r.finish()
	require.Equal(t, Fail, r.Verdict, "the PF is not as it was")
	require.Contains(t, r.Row, "PF as it was")
}

// TestOnly: a run that tries nothing would pass.
func TestOnly(t *testing.T) {
	t.Parallel()
	for only, want := range map[string]string{
		"frob": `-only is "frob", which is no part of any check's name: VF count, `,
		"*":    "-only: error parsing regexp",
	} {
		_, err := New(Options{VFs: 2, Patience: time.Second, Only: only})
		require.ErrorContains(t, err, want)
	}
	_, err := New(Options{VFs: 2})
	require.ErrorContains(t, err, "-patience is 0s")
}

// TestStack finds what stands on an interface: a bridge over a bond over a VLAN over it.
func TestStack(t *testing.T) {
	t.Parallel()
	elsewhere := int32(1)
	all := []link.Link{
		{Index: 1, Name: "lo"}, {Index: 2, Name: "pf"}, {Index: 3, Name: "vlan", Lower: 2, Master: 4}, {Index: 4, Name: "bond", Master: 5},
		{Index: 5, Name: "bridge"}, {Index: 6, Name: "other", Lower: 7}, {Index: 7, Name: "veth", Lower: 2, NetNSID: &elsewhere},
	}
	var names []string
	for _, l := range stack(all, all[1]) {
		names = append(names, l.Name)
	}
	require.Equal(t, []string{"pf", "vlan", "bond", "bridge"}, names)
}

func TestIsPassing(t *testing.T) {
	t.Parallel()
	require.True(t, isPassing(fmt.Errorf("x: %w", syscall.EBUSY)))
	require.False(t, isPassing(syscall.EOPNOTSUPP))
}

// TestManifest names flags that the command has.
func TestManifest(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("sriov-conformance.yaml")
	require.NoError(t, err)
	main, err := os.ReadFile("../cmd/sriov-conformance/main.go")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "command: ["); ok {
			for word := range strings.SplitSeq(strings.TrimSuffix(command, "]"), ", ") {
				if flag, ok := strings.CutPrefix(word, "-"); ok {
					require.Contains(t, string(main), `"`+flag+`"`)
				}
			}
			return
		}
	}
	t.Fatal("no command")
}
