// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

func TestNodeOffload(t *testing.T) {
	sriovtest.NeedNode(t)
	const id = "91"
	require.NoError(t, os.WriteFile("/sys/bus/netdevsim/new_device", []byte(id+" 1"), 0))
	t.Cleanup(func() { require.NoError(t, os.WriteFile("/sys/bus/netdevsim/del_device", []byte(id), 0)) })
	names, err := os.ReadDir("/sys/bus/netdevsim/devices/netdevsim" + id + "/net")
	require.NoError(t, err)
	require.Len(t, names, 1)
	name := names[0].Name()
	on, known, err := offloads(name)
	require.NoError(t, err)
	require.True(t, known)
	require.False(t, on)
	require.NoError(t, setOffload(name))
	on, _, err = offloads(name)
	require.NoError(t, err)
	require.True(t, on)
	require.NoError(t, setOffload(name), "twice is no error")

	require.NoError(t, setOffload("lo"), "what does not have the feature is left at that")
	_, _, err = offloads("no-such")
	require.ErrorContains(t, err, "no-such")
}
