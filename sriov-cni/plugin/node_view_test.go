// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vdpa"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	hostvf "github.com/sriovkit/sriovkit/sriov-cni/vf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// view makes a mount namespace in which sysfs shows another arrangement of the
// node's devices, as script mounts it with $vf and $pf being the directories of
// a VF and its PF. The devices, and all that the plugin asks the kernel for, are
// the real ones. It returns the namespace's path.
func (v vf) view(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.Command("unshare", "-m", "sh", "-ec", script+"\necho ready\nexec sleep 3600")
	for name, a := range map[string]libsriov.Address{"vf": v.Address, "pf": v.PF} {
		dir, err := filepath.EvalSymlinks("/sys/bus/pci/devices/" + a.String())
		require.NoError(t, err)
		cmd.Env = append(cmd.Env, name+"="+dir)
	}
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid)
}

// hide shows a device's directory dir without some of its entries.
func hide(dir string, entries ...string) string {
	var b strings.Builder
	b.WriteString("mount -t tmpfs view /mnt; mkdir /mnt/upper /mnt/work /mnt/lower\n")
	for _, e := range entries {
		fmt.Fprintf(&b, "mknod /mnt/upper/%s c 0 0\n", e) // how overlayfs marks what is not to be seen
	}
	fmt.Fprintf(&b, "mount --bind %s /mnt/lower\n", dir) // to an overlay, the colons of an address part directories
	fmt.Fprintf(&b, "mount -t overlay -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work view %s\n", dir)
	return b.String()
}

// asRendered is what the operator writes into every network: no VLAN.
func asRendered(more map[string]any) map[string]any {
	conf := map[string]any{"vlan": 0, "vlanQoS": 0, "ipam": map[string]any{}}
	maps.Copy(conf, more)
	return conf
}

// A VF that was handed to a virtual machine has no PF there.
func TestNodeNoPFInSight(t *testing.T) {
	v := needVF(t, 0, 3) // with an administrative MAC, igb would let the VF have no other
	v.unchanged(t)
	before := v.picture(t)
	add, del := attach(t, v, newPod(t), asRendered(map[string]any{"mac": "ca:fe:c0:ff:ee:31", "mtu": 1400}))
	add.view = v.view(t, hide("$vf", "physfn"))
	del.view = add.view
	add.fails(t, 100, "has no physfn, and no device plugin offers it")
	v.is(t, before)
	nodeConfig(t, `{"functions":["`+v.Address.String()+`"]}`)
	for name, value := range map[string]any{"vlan": 100, "trust": "on", "spoofchk": "off", "link_state": "auto", "max_tx_rate": 100} {
		t.Run(name, func(t *testing.T) {
			add.with(map[string]any{name: value}).fails(t, 100, "no PF is in sight")
			v.is(t, before)
		})
	}
	a := add.ok(t)
	assert.Equal(t, "ca:fe:c0:ff:ee:31", a.Interfaces[0].Mac)
	l, err := add.pod.ByName("net1")
	require.NoError(t, err)
	assert.Equal(t, "ca:fe:c0:ff:ee:31", l.MAC.String())
	assert.Equal(t, 1400, l.MTU)
	assert.True(t, l.Up())
	add.as("CHECK").with(map[string]any{"prevResult": prevResult(t, a)}).ok(t)
	del.ok(t)
}

// nodeConfig writes the administrator's file for the time of the test.
func nodeConfig(t *testing.T, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(hostvf.NodeConfigPath), 0o755))
	require.NoError(t, os.WriteFile(hostvf.NodeConfigPath, []byte(text), 0o600))
	t.Cleanup(func() { require.NoError(t, os.Remove(hostvf.NodeConfigPath)) })
}

// simulatedPF has a netdevsim interface stand where a VF's PF has its own: it
// takes what igb does not, for any number of VFs.
func simulatedPF(t *testing.T, v vf, vfs int) (view string, state func() vfstate.State) {
	t.Helper()
	const id = 79
	name := fmt.Sprintf("netdevsim%d", id)
	write := func(path, text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0)) }
	write("/sys/bus/netdevsim/new_device", fmt.Sprintf("%d 1", id))
	t.Cleanup(func() { write("/sys/bus/netdevsim/del_device", strconv.Itoa(id)) })
	if vfs > 0 {
		write("/sys/bus/netdevsim/devices/"+name+"/sriov_numvfs", strconv.Itoa(vfs))
	}
	c, err := link.Open(nil)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	links, err := c.All()
	require.NoError(t, err)
	index := 0
	for _, l := range links {
		if l.Parent == name {
			index = l.Index
		}
	}
	require.NotZero(t, index, "netdevsim made no interface")
	return v.view(t, "mount --bind /sys/devices/"+name+"/net $pf/net"), func() vfstate.State {
		s, err := c.VFState(index, v.Index)
		require.NoError(t, err)
		return s
	}
}

// The PF has 256 VFs, and a driver that takes every setting.
func TestNodeEverySettingAmong256VFs(t *testing.T) {
	v := needVF(t, 0, 3)
	v.unchanged(t)
	var state func() vfstate.State
	add, del := attach(t, v, newPod(t), map[string]any{
		"vlan": 100, "vlanQoS": 3, "vlanProto": "802.1AD", "mac": "ca:fe:c0:ff:ee:32",
		"trust": "on", "spoofchk": "on", "link_state": "enable", "min_tx_rate": 100, "max_tx_rate": 200,
	})
	add.view, state = simulatedPF(t, v, 256)
	del.view = add.view
	before := state()
	start := time.Now()
	a := add.ok(t)
	t.Logf("ADD took %s", time.Since(start))
	assert.Equal(t, vfstate.State{
		MAC: mustMAC("ca:fe:c0:ff:ee:32"), VLAN: &vfstate.VLAN{ID: 100, QoS: 3, Proto: vfstate.Proto8021AD},
		Rate: &vfstate.Rate{Min: 100, Max: 200}, SpoofCheck: vfstate.On, Trust: vfstate.On, LinkState: vfstate.LinkEnable, QueryRSS: before.QueryRSS,
	}, state())
	add.as("CHECK").with(map[string]any{"prevResult": prevResult(t, a)}).ok(t)
	del.ok(t)
	assert.True(t, vfstate.Diff(state(), before).IsZero(), "%+v", state())
}

// ADD without settings of the PF works if the PF's driver reports nothing about its VFs.
func TestNodePFReportsNoVFs(t *testing.T) {
	v := needVF(t, 0, 3)
	v.unchanged(t)
	add, del := attach(t, v, newPod(t), asRendered(nil))
	add.view, _ = simulatedPF(t, v, 0)
	del.view = add.view
	add.with(map[string]any{"vlan": 100}).fails(t, 100, "knows no settings of VFs")
	add.ok(t)
	del.ok(t)
}

// The VF's driver makes no interface but a vDPA device, here a simulated one. It
// is the driver of that which decides what the pod gets.
func TestNodeVDPA(t *testing.T) {
	v := needVF(t, 0, 3)
	out, err := exec.Command("vdpa", "dev", "add", "name", "vdpa9", "mgmtdev", "vdpasim_net", "mac", "02:00:00:00:00:99").CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Cleanup(func() { require.NoError(t, vdpa.Delete("vdpa9")) })
	bind := func(t *testing.T, driver string) libsriov.VDPA {
		t.Helper()
		d, err := v.host.VDPA("vdpa9")
		require.NoError(t, err)
		if d.Driver != "" {
			require.NoError(t, os.WriteFile("/sys/bus/vdpa/drivers/"+d.Driver+"/unbind", []byte("vdpa9"), 0))
		}
		require.NoError(t, os.WriteFile("/sys/bus/vdpa/devices/vdpa9/driver_override", []byte(driver), 0))
		require.NoError(t, os.WriteFile("/sys/bus/vdpa/drivers/"+driver+"/bind", []byte("vdpa9"), 0))
		d, err = v.host.VDPA("vdpa9")
		require.NoError(t, err)
		return d
	}
	show := hide("$vf", "net") + "mkdir $vf/vdpa9; mount --bind /sys/devices/vdpa9 $vf/vdpa9"

	t.Run("virtio", func(t *testing.T) {
		v.unchanged(t)
		d := bind(t, libsriov.VDPAVirtio)
		require.NotEmpty(t, d.Netdev)
		c, _ := pfOf(t, v)
		before, err := c.ByName(d.Netdev)
		require.NoError(t, err)
		add, del := attach(t, v, newPod(t), map[string]any{"vlan": 100, "mtu": 1400})
		add.view = v.view(t, show)
		del.view = add.view
		a := add.ok(t)
		assert.Equal(t, before.MAC.String(), a.Interfaces[0].Mac)
		l, err := add.pod.ByName("net1")
		require.NoError(t, err)
		assert.Equal(t, before.Parent, l.Parent)
		assert.Equal(t, 1400, l.MTU)
		assert.EqualValues(t, 100, v.picture(t).Admin.VLAN.ID)
		del.ok(t)
		after, err := c.ByName(d.Netdev)
		require.NoError(t, err)
		assert.Equal(t, before, after)
	})
	t.Run("vhost", func(t *testing.T) {
		v.unchanged(t)
		d := bind(t, libsriov.VDPAVhost)
		add, del := attach(t, v, newPod(t), map[string]any{"vlan": 100, "mac": "ca:fe:c0:ff:ee:33"})
		add.view = v.view(t, show)
		del.view = add.view
		a := add.ok(t)
		assert.Equal(t, "ca:fe:c0:ff:ee:33", a.Interfaces[0].Mac)
		_, err := add.pod.ByName("net1")
		require.ErrorIs(t, err, link.ErrNotFound)
		assert.EqualValues(t, 100, v.picture(t).Admin.VLAN.ID)
		assert.FileExists(t, d.Node)
		del.ok(t)
	})
}
