// SPDX-License-Identifier: Apache-2.0

package vf

import (
	"os"
	"path/filepath"
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

func TestReal(t *testing.T) {
	t.Parallel()
	h := &Host{Root: t.TempDir()}
	put(t, h.Root, "run/a/b", "")
	for link, to := range map[string]string{"var": "run", "run/up": "..", "run/nowhere": "none/x", "run/loop": "loop", "run/file": "a/b"} {
		require.NoError(t, os.Symlink(to, filepath.Join(h.Root, link)))
	}
	for name, want := range map[string]string{ // "" is an error
		"/": "/", "/run/a": "/run/a", "/var/a/b": "/run/a/b", "/var/new/er": "/run/new/er", "/run/up/var/a": "/run/a", "/no/no": "/no/no", "/run/file": "/run/a/b",
		"/run/nowhere": "", "/run/nowhere/x": "", "/run/loop": "", "/run/a/b/c": "",
	} {
		to, err := h.Real(name)
		assert.Equal(t, want == "", err != nil, name)
		assert.Equal(t, want, to, name)
	}
}
