// SPDX-License-Identifier: Apache-2.0

package vf

import (
	"testing"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestUpperInterfaceIsHostUse(t *testing.T) {
	t.Parallel()
	root, a := t.TempDir(), libsriov.Address{Bus: 0xaf, Device: 6}
	const dir = "sys/bus/pci/devices/0000:af:06.0/net/eth7"
	put(t, root, dir+"/upper_bond0/x", "")
	put(t, root, dir+"/ifindex", "7\n")
	h, err := Open(root, NodeConfig{})
	require.NoError(t, err)
	assert.ErrorContains(t, h.RefuseHostUse(nil, a, link.Link{Name: "eth7"}), "in use by the host: its interface eth7 is a part of bond0")

	// Another function's interface has the name by now: nothing of it is read.
	a.Function = 1
	assert.ErrorIs(t, h.RefuseHostUse(nil, a, link.Link{Name: "eth7"}), link.ErrNotFound)
	_, err = h.read(nil, a, "eth7")
	assert.ErrorIs(t, err, link.ErrNotFound)
}
