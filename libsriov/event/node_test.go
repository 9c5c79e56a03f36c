// SPDX-License-Identifier: Apache-2.0

//go:build linux

package event_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// A watcher hears of a VF's birth, of each change of its driver, and of its end.
func TestNodeEventsOfAVF(t *testing.T) {
	h, pfs := sriovtest.NodePFs(t)
	devices, err := event.OpenDevices()
	require.NoError(t, err)
	defer devices.Close()
	next := func(subsystem string, action event.Action) event.Device {
		t.Helper()
		for {
			e, err := devices.Next(t.Context())
			require.NoError(t, err)
			require.NotEqual(t, event.Missed, e.Action)
			if e.Subsystem == subsystem && e.Action == action && e.Function != (libsriov.Address{}) {
				return e
			}
		}
	}
	before, err := h.Events()
	require.NoError(t, err)
	require.NoError(t, h.SetNumVFs(t.Context(), pfs[0].Address, 1))
	after, err := h.Events()
	require.NoError(t, err)
	vf := next("pci", event.Add).Function
	assert.NotEmpty(t, next("net", event.Add).Interface)
	bound := next("pci", event.Bind)
	assert.Equal(t, vf, bound.Function)
	assert.Equal(t, "igbvf", bound.Driver)
	assert.Greater(t, bound.Number, before)
	assert.LessOrEqual(t, bound.Number, after)

	require.NoError(t, h.BindDriver(t.Context(), vf, "vfio-pci"))
	assert.Equal(t, vf, next("net", event.Remove).Function)
	assert.Equal(t, vf, next("pci", event.Unbind).Function)
	assert.Equal(t, "vfio-pci", next("pci", event.Bind).Driver)

	require.NoError(t, h.SetNumVFs(t.Context(), pfs[0].Address, 0))
	assert.Equal(t, vf, next("pci", event.Remove).Function)
}
