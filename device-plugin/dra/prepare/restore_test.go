// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/stretchr/testify/require"
)

func TestDriverOnRequest(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	testhost.Link(t, n.root, "sys/bus/pci/devices/"+testhost.VF0+"/iommu_group", "../../../../kernel/iommu_groups/20")
	clean := n.state(t)
	c := with(claim("net: "+testhost.VF0, "dpdk: "+testhost.VF1), `"driver": "vfio-pci"`)
	got := n.Prepare(t.Context(), c)
	require.NoError(t, got.Err)
	require.Equal(t, "vfio-pci", n.state(t)[testhost.VF0])
	_, nodes := n.container(t, got.Devices[0].CDIDeviceIDs...)
	require.Equal(t, []string{"/dev/vfio/vfio", "/dev/vfio/20"}, nodes, "of the driver that is bound now")

	// A reboot: the kernel's own choice again, and /run is empty.
	prepared := n.state(t)
	require.NoError(t, n.kernel.set(libsriov.Address{Bus: 1, Device: 2}, "iavf"))
	require.NoError(t, os.RemoveAll(filepath.Join(n.root, "run")))
	n.BootID = "boot-2"
	pending, err := n.Restore(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, pending)
	n.container(t, driver+"/metadata="+string(uid)+"_net")
	require.NoError(t, n.RemoveMetadata(record.Claim{UID: uid, Namespace: "team", Name: "vf", Requests: []record.Request{{Name: "net"}, {Name: "dpdk"}}}))
	again := n.state(t)
	for path, text := range prepared {
		require.Equal(t, strings.ReplaceAll(text, "boot-1", "boot-2"), again[path], path)
	}

	require.NoError(t, n.Unprepare(t.Context(), uid))
	require.Equal(t, clean, n.state(t))
}

func TestRestoreWaitsForHardware(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	require.NoError(t, n.Prepare(t.Context(), claim("vf: "+testhost.VF0)).Err)
	lookup := n.Lookup
	n.Lookup = func(string) (config.Pool, pool.Member, bool) { return config.Pool{}, pool.Member{}, false }
	pending, err := n.Restore(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, pending, 1)
	n.Lookup = lookup
	pending, err = n.Restore(t.Context(), pending)
	require.NoError(t, err)
	require.Empty(t, pending)
}

// After a reboot the device manager may have come first: its pod keeps the device and its
// driver, and the claim waits.
func TestRestoreAsksWhoHasTheDevice(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.BindDrivers = true
	require.NoError(t, n.Prepare(t.Context(), with(claim("vf: "+testhost.VF1), `"driver": "default"`)).Err)
	n.BootID = "boot-2"
	a, err := libsriov.ParseAddress(testhost.VF1)
	require.NoError(t, err)
	require.NoError(t, n.kernel.set(a, "vfio-pci"))
	before := n.state(t)
	n.held = map[string]config.Resource{testhost.VF1: {Prefix: "example.com", Name: "dpdk"}}
	left, err := n.Restore(t.Context(), nil)
	require.ErrorIs(t, err, ErrInUse)
	require.Len(t, left, 1)
	ask := n.Holders
	n.Holders = func(context.Context) (map[string]config.Resource, error) { return nil, errors.New("no answer") }
	left, err = n.Restore(t.Context(), left)
	require.ErrorContains(t, err, "no answer")
	require.Len(t, left, 1)
	require.Equal(t, before, n.state(t))
	n.Holders, n.held = ask, nil
	left, err = n.Restore(t.Context(), left)
	require.NoError(t, err)
	require.Empty(t, left)
	require.Equal(t, "iavf", n.state(t)[testhost.VF1])
}

// A claim that outlives its pod is the next pod's: the record names whose it is.
func TestPrepareForAnotherPod(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := claim("vf: " + testhost.VF0)
	require.NoError(t, n.Prepare(t.Context(), c).Err)
	c.Status.ReservedFor[0].Name, c.Status.ReservedFor[0].UID = "next", "p2"
	require.NoError(t, n.Prepare(t.Context(), c).Err)
	r, err := n.Store.Load(uid)
	require.NoError(t, err)
	require.Equal(t, record.Pod{UID: "p2", Name: "next"}, r.Pod)
	require.True(t, r.Prepared)
}

// While one claim waits for its device, the others are let be: the runtime reads all
// specifications again for each that is written.
func TestRestoreTouchesNothingThatIsWhole(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	require.NoError(t, n.Prepare(t.Context(), claim("vf: "+testhost.VF0)).Err)
	other := claim("vf: " + testhost.VF1)
	other.UID = "7c1d2e3f-5d4c-4a56-9a5e-2f4d1c0b9a87"
	require.NoError(t, n.Prepare(t.Context(), other).Err)
	whole, err := os.Stat(n.specPath(record.Claim{UID: uid}))
	require.NoError(t, err)
	lookup := n.Lookup
	asked := 0
	n.Lookup = func(id string) (config.Pool, pool.Member, bool) {
		if id == testhost.VF1 {
			return config.Pool{}, pool.Member{}, false
		}
		asked++
		return lookup(id)
	}
	left, err := n.Restore(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.NotZero(t, asked)
	asked = 0
	left, err = n.Restore(t.Context(), left)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Zero(t, asked, "the other claim is not looked at again")
	now, err := os.Stat(n.specPath(record.Claim{UID: uid}))
	require.NoError(t, err)
	require.True(t, os.SameFile(whole, now), "nor are its files written")
}

// A claim waits for what was withdrawn to be known, and a node that has gone back to the
// device plugin prepares no more; both are before anything is done.
func TestPremiseOfPrepare(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	clean := n.state(t)
	n.Settled = func(context.Context) error { return errors.New("behind") }
	require.ErrorContains(t, n.Prepare(t.Context(), claim("vf: "+testhost.VF0)).Err, "claim team/vf: behind")
	n.Settled, n.Takes = nil, func() error { return errors.New("left") }
	require.ErrorContains(t, n.Prepare(t.Context(), claim("vf: "+testhost.VF0)).Err, "claim team/vf: left")
	require.Equal(t, clean, n.state(t))
}

// The process ends between any two changes of Prepare or of Unprepare. What kubelet does
// then, one or the other again, ends with a pod that runs or with all as before.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	c := with(claim("a: "+testhost.VF0, "b: "+testhost.VF1), `"driver": "vfio-pci"`)
	for _, first := range []string{"prepare", "unprepare"} {
		for _, then := range []string{"prepare", "unprepare"} {
			steps := 0
			for last := false; !last && !t.Failed(); steps++ {
				t.Run(fmt.Sprintf("%s ends after step %d, then %s", first, steps, then), func(t *testing.T) {
					n := newNode(t)
					testhost.Link(t, n.root, "sys/bus/pci/devices/"+testhost.VF0+"/iommu_group", "../../../../kernel/iommu_groups/20")
					clean := n.state(t)
					call := map[string]func() error{
						"prepare":   func() error { return n.Prepare(t.Context(), c).Err },
						"unprepare": func() error { return n.Unprepare(t.Context(), uid) },
					}
					if first == "unprepare" {
						require.NoError(t, call["prepare"]())
					}
					left := steps
					n.step = func(string) error {
						if left--; left < 0 {
							return errKilled
						}
						return nil
					}
					err := call[first]()
					last = err == nil
					if !last {
						require.ErrorIs(t, err, errKilled)
					}
					n.step = nil
					clear(n.given) // the process's memory
					require.NoError(t, call[then]())
					if then == "prepare" {
						_, nodes := n.container(t, driver+"/vf="+string(uid)+"_a")
						require.Len(t, nodes, 2)
						require.NoError(t, n.Unprepare(t.Context(), uid))
					}
					require.Equal(t, clean, n.state(t))
				})
			}
			require.Greater(t, steps, 2, "%s has steps", first)
		}
	}
}

func BenchmarkPrepareUnprepare(b *testing.B) {
	n := newNode(b)
	c := claim("vf: " + testhost.VF1)
	for b.Loop() {
		require.NoError(b, n.Prepare(b.Context(), c).Err)
		require.NoError(b, n.Unprepare(b.Context(), uid))
	}
}

// A record that cannot be read holds up its claim, with the file to remove in the error, and
// no other. Without it the claim ends, and the runtime finds nothing of it.
func TestUnprepareWithoutARecord(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	require.NoError(t, n.Prepare(t.Context(), claim("vf: "+testhost.VF0)).Err)
	path, err := n.Store.Path(uid)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	require.ErrorContains(t, n.Unprepare(t.Context(), uid), "remove "+path)
	require.NoError(t, os.Remove(path))
	require.NoError(t, n.Unprepare(t.Context(), uid))
	entries, err := os.ReadDir(n.CDIDir)
	require.NoError(t, err)
	require.Empty(t, entries)
}
