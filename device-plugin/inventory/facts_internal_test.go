// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/stretchr/testify/require"
)

// ddptool is run once for each device and driver, for Intel's only, and again after a failure
// at the next periodic look.
func TestDDPToolIsAskedOnce(t *testing.T) {
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	script := "#!/bin/sh\necho $* >> " + calls + "\n" +
		`[ -e ` + dir + `/broken ] && exit 1` + "\n" + `echo '{"DDPInventory":{"DDPpackage":{"name":"gtp"}}}'` + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ddptool"), []byte(script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	count := func() int {
		data, _ := os.ReadFile(calls)
		return strings.Count(string(data), "\n")
	}
	f := &facts{ddpOf: map[function]ddpAnswer{}}
	pf := libsriov.Function{Address: address(t, "0000:01:00.0"), Vendor: 0x8086, Driver: "i40e"}
	for range 3 {
		name, err := f.ddp(t.Context(), pf)
		require.NoError(t, err)
		require.Equal(t, "gtp", name)
	}
	require.Equal(t, 1, count())
	pf.Driver = "vfio-pci"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "broken"), nil, 0o600))
	for range 3 {
		_, err := f.ddp(t.Context(), pf)
		require.Error(t, err)
	}
	require.Equal(t, 2, count())
	f.forgetDDPFailures()
	require.NoError(t, os.Remove(filepath.Join(dir, "broken")))
	_, err := f.ddp(t.Context(), pf)
	require.NoError(t, err)
	require.Equal(t, 3, count())
	_, err = f.ddp(t.Context(), libsriov.Function{Address: address(t, "0000:02:00.0"), Vendor: 0x1af4, Driver: "virtio-pci"})
	require.NoError(t, err)
	require.Equal(t, 3, count())
}

// What cannot be read is said when that changes, not at every look.
func TestBrokenDevicesAreSaidOnce(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	inv := &Inventory{log: slog.New(slog.NewTextHandler(&out, nil)), metrics: metrics.New("test")}
	broken := func(names ...string) error {
		var errs []error
		for _, n := range names {
			errs = append(errs, &libsriov.DeviceError{Device: n, Err: errors.New("input/output error")})
		}
		return errors.Join(errs...)
	}
	lines := func() int { return strings.Count(out.String(), "\n") }
	for range 20 {
		inv.reportBroken(broken("a", "b"))
	}
	require.Equal(t, 2, lines())
	inv.reportBroken(broken("a"))
	require.Equal(t, 3, lines())
	inv.reportBroken(fmt.Errorf("%w: %w", errBlind, libsriov.ErrNoSnapshot))
	require.Equal(t, 5, lines())
	inv.reportBroken(nil)
	require.Equal(t, 6, lines())
}

// Where nobody can be asked, a device that was given out counts as free once the host shows
// so: another driver has it, or its interface did not leave.
func TestDevicesLookFree(t *testing.T) {
	t.Parallel()
	inv := &Inventory{devices: []pool.Device{
		{ID: "vfio", Function: libsriov.Function{Driver: "vfio-pci"}},
		{ID: "net", Function: libsriov.Function{Driver: "iavf", Netdevs: []string{"eth0"}}},
	}}
	for _, tc := range []struct {
		id, driver string
		since      time.Duration
		want       bool
	}{
		{"net", "vfio-pci", time.Second, false},
		{"net", "vfio-pci", time.Minute, true},
		{"net", "iavf", time.Minute, false},
		{"net", "iavf", time.Hour, true},
		{"vfio", "vfio-pci", time.Hour, false},
		{"gone", "vfio-pci", time.Minute, true},
	} {
		require.Equal(t, tc.want, inv.looksFree(tc.id, tc.driver, tc.since), "%+v", tc)
	}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	a, b := config.Resource{Prefix: "p", Name: "a"}, config.Resource{Prefix: "p", Name: "b"}
	var l ledger
	_, err := l.give(a, []string{"1"})
	require.ErrorIs(t, err, ErrNotOffered)
	_, version := l.held()
	require.True(t, l.commit(map[string]pool.Offer{"1": {Resource: a}, "2": {Resource: a}}, version))
	undo, err := l.give(a, []string{"1"})
	require.NoError(t, err)
	require.False(t, l.commit(map[string]pool.Offer{"1": {Resource: b}}, version), "given since")
	_, err = l.give(a, []string{"2", "9"})
	require.ErrorIs(t, err, ErrNotOffered)
	_, held := l.holder("2")
	require.False(t, held, "all or none")
	undo()
	held2, version := l.held()
	require.Empty(t, held2)
	require.True(t, l.commit(map[string]pool.Offer{"1": {Resource: b}}, version))
	_, err = l.give(a, []string{"1"})
	require.ErrorIs(t, err, ErrNotOffered)

	// A second container gets the same device of its pool before the first call is undone.
	first, err := l.give(b, []string{"1"})
	require.NoError(t, err)
	_, err = l.give(b, []string{"1"})
	require.NoError(t, err)
	first()
	_, held = l.holder("1")
	require.True(t, held)

	// An answer to a question from before is no word about what was given since.
	l.heard(map[string]pool.Holder{}, time.Now())
	_, held = l.holder("1")
	require.True(t, held)
	l.heard(map[string]pool.Holder{}, time.Now().Add(listedTime+time.Second))
	_, held = l.holder("1")
	require.False(t, held)

	// What kubelet lists is its to release; of a claim the resource stays known.
	for id, name := range map[string]config.Resource{"1": b, "2": b} {
		_, version = l.held()
		require.True(t, l.commit(map[string]pool.Offer{id: {Resource: name}}, version))
		_, err = l.give(name, []string{id})
		require.NoError(t, err)
	}
	later := time.Now().Add(2 * listedTime)
	l.heard(map[string]pool.Holder{"1": {Resource: b}, "2": {Claim: "ns/c"}}, later)
	two, _ := l.holder("2")
	require.Equal(t, pool.Holder{Resource: b, Claim: "ns/c"}, two)
	l.heard(map[string]pool.Holder{}, time.Now())
	_, held = l.holder("1")
	require.False(t, held)
	_, held = l.holder("2")
	require.True(t, held)
	l.giveBack([]string{"2"})
	_, held = l.holder("2")
	require.False(t, held)
}
