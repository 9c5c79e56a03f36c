// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
)

// A MAC that the driver refuses keeps no VF whose PF is not in sight: the hypervisor may have
// set another meanwhile. Where it is, the PF is to set it.
func TestRefusedMACKeepsNoVF(t *testing.T) {
	t.Parallel()
	ns := sriovtest.NewNetNS(t)
	home, err := link.Open(ns)
	require.NoError(t, err)
	defer home.Close()
	for _, pf := range []*libsriov.Address{nil, {Bus: 0xaf}} {
		l, err := home.ByName("lo")
		require.NoError(t, err)
		j := exampleJournal()
		j.Link, j.PF, j.Before, j.Want = state.LinkOf(l), pf, vfstate.State{}, vfstate.State{}
		j.Link.MAC = state.MAC(net.HardwareAddr{1, 0, 0, 0, 0, 1}) // no driver takes a multicast address
		j.Link.Alias = new(fmt.Sprintf("with PF %v", pf))
		w := &work{journal: j, home: home, from: home, situation: situation{Link: &l, AtHome: true}}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err = w.restoreLink(ctx, planRepair(j, w.situation))
		require.Equal(t, pf == nil, err == nil, err)
		l, err = home.ByName("lo")
		require.NoError(t, err)
		require.Equal(t, *j.Link.Alias, l.Alias, "what else there is to do is done")
	}
}

// What no later try would fare better at is a warning, the rest is for the next DEL.
func TestRefused(t *testing.T) {
	t.Parallel()
	for errno, want := range map[unix.Errno]bool{
		unix.EINVAL: true, unix.ENETDOWN: true, unix.EIO: true, // the latter two: ixgbevf's and iavf's open while the PF is down
		unix.EBUSY: false, unix.EAGAIN: false, unix.ENODEV: false, unix.EPERM: false, unix.ENOMEM: false,
	} {
		require.Equal(t, want, cannotBeSetUp(fmt.Errorf("set up true: %w", errno)), errno)
		require.Equal(t, errno == unix.EINVAL, refused(fmt.Errorf("take back: %w", errno)), "of the PF: %s", errno)
	}
}
