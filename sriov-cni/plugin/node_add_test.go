// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNodeAddByVersion(t *testing.T) { inBothStates(t, 0, 0, addByVersion) }

func addByVersion(t *testing.T, v vf) {
	version := call{command: "VERSION", pod: podNS{}}.ok(t)
	assert.Equal(t, []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}, version.SupportedVersions)

	for name, want := range map[string]struct{ interfaces, mtu, pciID bool }{
		"0.1.0": {},
		"0.2.0": {},
		"0.3.0": {interfaces: true},
		"0.3.1": {interfaces: true},
		"0.4.0": {interfaces: true},
		"1.0.0": {interfaces: true, mtu: true},
		"1.1.0": {interfaces: true, mtu: true, pciID: true},
	} {
		t.Run(name, func(t *testing.T) {
			v.unchanged(t)
			before := v.picture(t)
			pod := newPod(t)
			add, del := attach(t, v, pod, map[string]any{"cniVersion": name})
			a := add.ok(t)
			assert.Equal(t, name, a.CNIVersion)
			l, err := pod.ByName("net1")
			require.NoError(t, err)
			assert.True(t, l.Up())
			assert.Equal(t, v.Address.String(), l.Parent)
			assert.Nil(t, v.picture(t).Link, "the interface is still on the host")
			if want.interfaces {
				require.Len(t, a.Interfaces, 1)
				i := a.Interfaces[0]
				assert.Equal(t, "net1", i.Name)
				assert.Equal(t, before.Link.MAC, i.Mac)
				assert.Equal(t, pod.path, i.Sandbox)
				assert.Equal(t, want.mtu, i.Mtu == 1500)
				assert.Equal(t, want.pciID, i.PciID == v.Address.String())
			}
			assert.Empty(t, a.IPs)
			del.ok(t)
			v.is(t, before)
			del.ok(t)
			v.is(t, before)
		})
	}
}

func TestNodeVFSettings(t *testing.T) { inBothStates(t, 0, 0, vfSettings) }

func vfSettings(t *testing.T, v vf) {
	v.unchanged(t)
	for name, tc := range map[string]struct {
		conf  map[string]any
		args  string
		check func(t *testing.T, s vfstate.State)
		mac   string
	}{
		"vlan and qos": {
			conf: map[string]any{"vlan": 100, "vlanQoS": 3, "vlanProto": "802.1Q"},
			check: func(t *testing.T, s vfstate.State) {
				assert.Equal(t, &vfstate.VLAN{ID: 100, QoS: 3, Proto: vfstate.Proto8021Q}, s.VLAN)
			},
		},
		"trust on, spoof check off": {
			conf: map[string]any{"trust": "on", "spoofchk": "off"},
			check: func(t *testing.T, s vfstate.State) {
				assert.Equal(t, vfstate.On, s.Trust)
				assert.Equal(t, vfstate.Off, s.SpoofCheck)
			},
		},
		"only max_tx_rate": {
			conf:  map[string]any{"max_tx_rate": 500},
			check: func(t *testing.T, s vfstate.State) { assert.Equal(t, &vfstate.Rate{Max: 500}, s.Rate) },
		},
		"mac of the runtime wins": {
			conf:  map[string]any{"mac": "02:00:00:00:00:01", "runtimeConfig": map[string]any{"mac": "CA:FE:C0:FF:EE:03"}},
			args:  "IgnoreUnknown=true;MAC=02:00:00:00:00:02;K8S_POD_NAME=x",
			check: func(t *testing.T, s vfstate.State) { assert.Equal(t, mustMAC("ca:fe:c0:ff:ee:03"), s.MAC) },
			mac:   "ca:fe:c0:ff:ee:03",
		},
		"mac of CNI_ARGS over the network's": {
			conf:  map[string]any{"mac": "02:00:00:00:00:01"},
			args:  "MAC=02-00-00-00-00-02",
			check: func(t *testing.T, s vfstate.State) { assert.Equal(t, mustMAC("02:00:00:00:00:02"), s.MAC) },
			mac:   "02:00:00:00:00:02",
		},
		"what nothing reads is ignored": {
			conf:  map[string]any{"ipam": map[string]any{}, "pciBusID": "0000:ff:1f.7", "max-tx-rate": 3, "master": "eth0"},
			check: func(*testing.T, vfstate.State) {},
		},
		"vlan 0 and state that the VF has are not written": {
			conf:  map[string]any{"vlan": 0, "vlanQoS": 0, "link_state": "auto"}, // igb refuses to set a link state
			check: func(*testing.T, vfstate.State) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := v.picture(t)
			pod := newPod(t)
			add, del := attach(t, v, pod, tc.conf)
			add.args = tc.args
			a := add.ok(t)
			tc.check(t, v.picture(t).Admin)
			if tc.mac != "" {
				assert.Equal(t, tc.mac, a.Interfaces[0].Mac)
				l, err := pod.ByName("net1")
				require.NoError(t, err)
				assert.Equal(t, tc.mac, l.MAC.String())
			}
			del.ok(t)
			v.is(t, before)
		})
	}
}

func TestNodeUntouchedSettingsStay(t *testing.T) { inBothStates(t, 0, 0, untouchedSettingsStay) }

func untouchedSettingsStay(t *testing.T, v vf) {
	v.unchanged(t)
	c, pf := pfOf(t, v)
	require.NoError(t, c.SetVF(pf, v.Index, vfstate.State{VLAN: &vfstate.VLAN{ID: 7}}))
	t.Cleanup(func() { require.NoError(t, c.SetVF(pf, v.Index, vfstate.State{VLAN: &vfstate.VLAN{}})) })
	before := v.picture(t)
	add, del := attach(t, v, newPod(t), nil)
	add.ok(t)
	assert.EqualValues(t, 7, v.picture(t).Admin.VLAN.ID)
	del.ok(t)
	v.is(t, before)
}

func TestNodeMTU(t *testing.T) { inBothStates(t, 0, 0, mtuOfThePod) }

func mtuOfThePod(t *testing.T, v vf) {
	v.unchanged(t)
	pod := newPod(t)
	add, _ := attach(t, v, pod, map[string]any{"mtu": 1400})
	a := add.ok(t)
	assert.Equal(t, 1400, a.Interfaces[0].Mtu)
	l, err := pod.ByName("net1")
	require.NoError(t, err)
	assert.Equal(t, 1400, l.MTU)
}

func TestNodeRefusedAndUndone(t *testing.T) { inBothStates(t, 0, 0, refusedAndUndone) }

func refusedAndUndone(t *testing.T, v vf) {
	v.unchanged(t)
	pod := newPod(t)
	for name, tc := range map[string]struct {
		conf     map[string]any
		netns    string
		code     uint
		fragment string
	}{
		"mac, and then refused":   {conf: map[string]any{"mac": "ca:fe:c0:ff:ee:0b", "trust": "on", "link_state": "enable"}, code: 101, fragment: "SRIOV-CNI failed to configure VF"},
		"no such device":          {conf: map[string]any{"deviceID": "0000:ff:1f.7"}, code: 100, fragment: "failed to get VF information"},
		"a PF":                    {conf: map[string]any{"deviceID": v.PF.String()}, code: 100, fragment: "/physfn/net"},
		"refused after others":    {conf: map[string]any{"vlan": 100, "trust": "on", "link_state": "enable"}, code: 101, fragment: "SRIOV-CNI failed to configure VF"},
		"rate above link speed":   {conf: map[string]any{"vlan": 100, "max_tx_rate": 2000000}, code: 101, fragment: "rate"},
		"refused by the VF":       {conf: map[string]any{"vlan": 100, "mtu": 65000}, code: 102, fragment: "failed to set up pod interface"},
		"namespace of the host":   {netns: "/proc/1/ns/net", code: 8, fragment: "host's own network namespace"},
		"no such namespace":       {netns: "/run/netns/none", code: 8, fragment: "failed to open netns"},
		"a file, not a namespace": {netns: "/etc/hostname", code: 8, fragment: "failed to open netns"},
	} {
		t.Run(name, func(t *testing.T) {
			v.unchanged(t)
			add, _ := attach(t, v, pod, tc.conf)
			if tc.netns != "" {
				add.netns = &tc.netns
			}
			add.fails(t, tc.code, tc.fragment)
		})
	}
}

func TestNodeNameTakenInPod(t *testing.T) { inBothStates(t, 0, 0, nameTakenInPod) }

func nameTakenInPod(t *testing.T, v vf) {
	v.unchanged(t)
	pod := newPod(t)
	pod.ip(t, "link", "add", "net1", "type", "dummy")
	pod.ip(t, "addr", "add", "192.0.2.9/24", "dev", "net1")
	pod.ip(t, "link", "set", "net1", "up")
	innocent := pod.ip(t, "-d", "addr", "show", "net1")
	add, _ := attach(t, v, pod, map[string]any{"vlan": 100})
	add.fails(t, 102, "file exists")
	assert.Equal(t, innocent, pod.ip(t, "-d", "addr", "show", "net1"))
}

func TestNodeHostNameTakenInPod(t *testing.T) { inBothStates(t, 0, 0, hostNameTakenInPod) }

func hostNameTakenInPod(t *testing.T, v vf) {
	v.unchanged(t)
	pod := newPod(t)
	pod.ip(t, "link", "add", v.picture(t).Link.Name, "type", "dummy")
	add, del := attach(t, v, pod, nil)
	add.ok(t)
	del.ok(t)
}

func TestNodeAlternativeNames(t *testing.T) { inBothStates(t, 0, 0, alternativeNames) }

func alternativeNames(t *testing.T, v vf) {
	name := v.picture(t).Link.Name
	for _, altname := range []string{"net1", "enp1s16f0", "a-name-longer-than-an-interface-name"} {
		ip(t, "link", "property", "add", "dev", name, "altname", altname)
		t.Cleanup(func() { ip(t, "link", "property", "del", "dev", name, "altname", altname) })
	}
	v.unchanged(t)
	pod := newPod(t)
	pod.ip(t, "link", "add", "enp1s16f0", "type", "dummy") // collides with an alternative name
	add, del := attach(t, v, pod, nil)
	add.ok(t)
	pod.ip(t, "link", "property", "add", "dev", "net1", "altname", "by-the-pod")
	del.ok(t)
}

func TestNodeInUse(t *testing.T) { inBothStates(t, 0, 0, inUse) }

func inUse(t *testing.T, v vf) {
	v.unchanged(t)
	pod, other := newPod(t), newPod(t)
	add, _ := attach(t, v, pod, nil)
	add.ok(t)
	second := add
	second.pod = other
	second.fails(t, 11, "is already allocated")
	third := add
	third.ifname = "net2"
	third.fails(t, 11, "is already allocated")
	second.as("DEL").ok(t)
	third.as("DEL").ok(t)
	_, err := pod.ByName("net1")
	require.NoError(t, err, "a DEL of someone else took the VF away")
}

// pfOf opens a connection and finds the index of a VF's PF.
func pfOf(t *testing.T, v vf) (*link.Conn, int) {
	t.Helper()
	c, err := link.Open(nil)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	pf, err := c.ByParent(v.PF)
	require.NoError(t, err)
	return c, pf.Index
}

// script puts an executable into a directory of its own and returns that.
func script(t *testing.T, name, text string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755))
	return dir
}
