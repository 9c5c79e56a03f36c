// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

func TestUdevIsTold(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "run/udev"), 0o755))
	l, err := net.Listen("unixpacket", filepath.Join(root, "run/udev/control"))
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	asked := make(chan []byte, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 1024)
			for {
				n, err := c.Read(b)
				if err != nil || n < 24 || b[20] == udevEnd {
					break
				}
				asked <- slices.Clone(b[:n])
			}
			c.Close()
		}
	}()
	f := Files{Root: root}
	addr := libsriov.Address{Bus: 1}
	o := ownedBy(v1.Interface{PciAddress: addr.String(), Name: "ens1f0", NumVfs: 2, EswitchMode: v1.EswitchSwitchdev, VfGroups: []v1.VfGroup{{VfRange: "0-1"}}})
	require.NoError(t, f.Own(t.Context(), addr, o))
	require.Len(t, asked, 1)
	require.Equal(t, udevMessage(udevReload), <-asked)
	read := func(kind string) string {
		b, err := os.ReadFile(filepath.Join(root, f.udevRule(kind, addr)))
		require.NoError(t, err)
		return string(b)
	}
	require.Contains(t, read(ruleNM), `ENV{NM_UNMANAGED}="1"`)
	require.Contains(t, read(rulePF), `KERNELS=="0000:01:00.0", ATTR{phys_port_name}=="p[0-9]*", NAME="ens1f0"`)
	require.Contains(t, read(rulePorts), `ATTR{phys_port_name}=="*pf*vf1", NAME="ens1f0_1"`)

	t.Log("not without need")
	require.NoError(t, f.Own(t.Context(), addr, o))
	require.Empty(t, asked)

	t.Log("in legacy mode names are the host's")
	o.EswitchMode = ""
	require.NoError(t, f.Own(t.Context(), addr, o))
	require.NoFileExists(t, filepath.Join(root, f.udevRule(rulePF, addr)))
	require.Len(t, asked, 1)

	require.NoError(t, f.Disown(t.Context(), addr))
	require.NoFileExists(t, filepath.Join(root, f.udevRule(ruleNM, addr)))
	require.Len(t, asked, 2)

	t.Log("one that does not answer is an error")
	require.NoError(t, l.Close())
	require.NoError(t, os.WriteFile(filepath.Join(root, "run/udev/control"), nil, 0o600))
	require.ErrorContains(t, f.Own(t.Context(), addr, o), "have udevd read its rules")
}

// A PF whose udev rules could not be written is not recorded: no VFs are created without them.
func TestNoVFsWithoutTheirRules(t *testing.T) {
	s := newStand(t)
	rules := filepath.Join(s.root, "etc/udev/rules.d")
	require.NoError(t, os.MkdirAll(filepath.Dir(rules), 0o755))
	require.NoError(t, os.WriteFile(rules, nil, 0o600))
	for range 3 {
		_, err := s.pass()
		require.ErrorContains(t, err, "record ownership of "+treePF)
		require.Empty(t, s.wrote)
	}
	require.NoError(t, os.Remove(rules))
	_, err := s.pass()
	require.ErrorContains(t, err, "create VFs", "these files do not follow what is written to them")
	require.Equal(t, "sriov_numvfs=0", s.wrote[0])
	require.FileExists(t, filepath.Join(rules, ruleNM+treePF+".rules"))
}
