// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// defaults lists the default routes of the pod as "gateway ifname", sorted.
func (e *env) defaults() []string {
	e.t.Helper()
	ns, err := netns.GetFromPath(e.netns)
	require.NoError(e.t, err)
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	require.NoError(e.t, err)
	defer h.Close()
	var out []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := h.RouteList(nil, family)
		require.NoError(e.t, err)
		for _, r := range routes {
			if ones, _ := r.Dst.Mask.Size(); ones != 0 || !r.Dst.IP.IsUnspecified() {
				continue
			}
			link, err := h.LinkByIndex(r.LinkIndex)
			require.NoError(e.t, err)
			out = append(out, r.Gw.String()+" "+link.Attrs().Name)
		}
	}
	slices.Sort(out)
	return out
}

// routed is an env whose default network gives the pod default routes of both
// families, and whose neta gives it addresses.
func routed(t *testing.T, ownRoutes string) *env {
	t.Helper()
	e := newEnv(t)
	// The runtime's loopback plugin and kernels without IPv6 in new namespaces
	// are not what is tested here.
	e.delegate(`{"name":"dflt","type":"recorder","cniVersion":"1.0.0","test":{"link":true,
		"addr":["10.0.0.2/24","fd00::2/64"],"routes":["0.0.0.0/0 via 10.0.0.1","::/0 via fd00::1"],
		"result":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/n"}],
			"ips":[{"interface":0,"address":"10.0.0.2/24","gateway":"10.0.0.1"},{"interface":0,"address":"fd00::2/64","gateway":"fd00::1"}],
			"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1"},{"dst":"::/0","gw":"fd00::1"},{"dst":"10.9.0.0/16","gw":"10.0.0.1"}]}}}`)
	e.nad("neta", `"test":{"link":true,"addr":["10.1.0.2/24","fd01::2/64"],
		"result":{"cniVersion":"1.1.0","interfaces":[{"name":"net1","sandbox":"/n"}],
			"ips":[{"interface":0,"address":"10.1.0.2/24"}],"routes":[`+ownRoutes+`]}}`)
	return e
}

func TestDefaultRouteOfOneFamily(t *testing.T) {
	t.Parallel()
	e := routed(t, "")
	e.networks(`[{"name":"neta","default-route":["10.1.0.1"]}]`)
	out := e.must("ADD")
	assert.Equal(t, []string{"10.1.0.1 net1", "fd00::1 eth0"}, e.defaults(), "IPv6 stays where it was")

	var result struct{ Routes []struct{ Dst, GW string } }
	require.NoError(t, json.Unmarshal([]byte(out.Stdout), &result))
	assert.Equal(t, []struct{ Dst, GW string }{{"::/0", "fd00::1"}, {"10.9.0.0/16", "10.0.0.1"}}, result.Routes, "the runtime learns it")

	status := e.status()
	assert.Equal(t, []any{"fd00::1"}, status[0]["gateway"])
	assert.Nil(t, status[0]["default-route"])
	assert.Equal(t, []any{"10.1.0.1"}, status[1]["gateway"])
	assert.Equal(t, []any{"10.1.0.1"}, status[1]["default-route"])

	e.calls()
	e.must("CHECK")
	calls := e.calls()
	assert.NotContains(t, calls[0].member(t, "prevResult"), `"0.0.0.0/0"`, "so do later commands")
	assert.Contains(t, calls[1].member(t, "prevResult"), `{"dst":"0.0.0.0/0","gw":"10.1.0.1"}`)
	e.must("DEL")
}

func TestDefaultRouteOfBothFamilies(t *testing.T) {
	t.Parallel()
	e := routed(t, "")
	e.networks(`[{"name":"neta","default-route":["10.1.0.1","fd01::1"]}]`)
	e.must("ADD")
	assert.Equal(t, []string{"10.1.0.1 net1", "fd01::1 net1"}, e.defaults())
}

func TestDefaultRouteOfTheNetworkItself(t *testing.T) {
	t.Parallel()
	e := routed(t, `{"dst":"0.0.0.0/0","gw":"10.1.0.254"}`)
	e.networks(`[{"name":"neta","default-route":[]}]`)
	e.must("ADD")
	assert.Equal(t, []string{"10.1.0.254 net1", "fd00::1 eth0"}, e.defaults())
	assert.Equal(t, []any{"10.1.0.254"}, e.status()[1]["default-route"])
}

func TestNoDefaultRouteAskedFor(t *testing.T) {
	t.Parallel()
	e := routed(t, `{"dst":"0.0.0.0/0","gw":"10.1.0.254"}`)
	e.networks("neta")
	e.must("ADD")
	assert.Equal(t, []string{"10.0.0.1 eth0", "fd00::1 eth0"}, e.defaults())
}

func TestDefaultRouteThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		selection string
		code      uint
	}{
		"two elements":        {`[{"name":"neta","default-route":["10.1.0.1"]},{"name":"neta","default-route":["fd01::1"]}]`, types.ErrInvalidNetworkConfig},
		"two of a family":     {`[{"name":"neta","default-route":["10.1.0.1","10.1.0.3"]}]`, types.ErrInvalidNetworkConfig},
		"unreachable gateway": {`[{"name":"neta","default-route":["192.0.2.1"]}]`, types.ErrInternal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := routed(t, "")
			e.networks(tc.selection)
			e.mustFail("ADD", tc.code, "default-route")
			if tc.code == types.ErrInternal {
				assert.Equal(t, []string{"ADD eth0", "ADD net1", "DEL net1", "DEL eth0"}, names(e.calls()))
			}
			assert.Empty(t, e.leftovers())
			assert.Empty(t, e.defaults())
		})
	}
}

func (e *env) deviceFile(t *testing.T, id string) string {
	t.Helper()
	info := fmt.Sprintf(`{"type":"pci","version":"1.1.0","pci":{"pci-address":%q}}`, id)
	dir := filepath.Join(e.dir, "devinfo", "dp")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "example.com-vf-"+id+"-device.json"), []byte(info), 0o644))
	return info
}
