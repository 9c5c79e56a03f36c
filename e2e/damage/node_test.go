// SPDX-License-Identifier: Apache-2.0

package damage

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

const (
	pf  = "0000:01:00.0" // with two VFs
	vf0 = "0000:01:10.0"
	vf1 = "0000:01:10.2"
)

// bench is a node with the CNI plugin.
type bench struct {
	*testing.T
	vm *vm.VM
}

func newBench(t *testing.T, config vm.Config) *bench {
	vm.Need(t)
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, component.Programs(t.Context(), checkout, dir, "sriov"))
	v, err := vm.Boot(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	require.NoError(t, v.Push(t.Context(), dir, "/opt/cni"))
	b := &bench{t, v}
	b.fresh()
	return b
}

// try is a subtest, on a PF with two new VFs.
func (b *bench) try(name string, f func(*bench)) {
	b.Run(name, func(t *testing.T) {
		sub := &bench{t, b.vm}
		sub.fresh()
		f(sub)
	})
}

// fresh makes the VFs anew. Only a subtest that failed leaves namespaces.
func (b *bench) fresh() {
	b.Helper()
	b.sh(`ip -all netns delete; rm -rf /var/lib/cni/sriov
		cd /sys/bus/pci/devices/` + pf + `; ip link set $(ls net) up; echo 0 >sriov_numvfs; echo 2 >sriov_numvfs`)
}

func (b *bench) sh(script string) string {
	b.Helper()
	out, err := b.vm.Output(b.Context(), "sh", "-ec", script)
	require.NoError(b, err)
	return strings.TrimSpace(out)
}

// pod is a network namespace that has a VF, or is to have it.
type pod struct {
	b             *bench
	name, address string
	prevResult    json.RawMessage
}

// pod makes a namespace; each has a VLAN and an address of its own.
func (b *bench) pod(name, address string) *pod {
	b.Helper()
	b.sh("ip netns add " + name)
	return &pod{b: b, name: name, address: address}
}

const mac = "02:00:88:b5:00:05"

func (p *pod) command(command string) (string, error) {
	config := map[string]any{"cniVersion": "1.0.0", "name": "net", "type": "sriov", "deviceID": p.address, "vlan": 100, "mac": mac, "trust": "on"}
	if p.prevResult != nil && command == "CHECK" {
		config["prevResult"] = p.prevResult
	}
	stdin, err := json.Marshal(config)
	require.NoError(p.b, err)
	return p.b.vm.Output(p.b.Context(), "sh", "-ec", fmt.Sprintf(
		"echo '%s' | CNI_COMMAND=%s CNI_CONTAINERID=%s CNI_NETNS=/run/netns/%[3]s CNI_IFNAME=net1 CNI_PATH=/opt/cni /opt/cni/sriov; status=$?; echo; exit $status",
		stdin, command, p.name))
}

func (p *pod) add() {
	p.b.Helper()
	out, err := p.command("ADD")
	require.NoError(p.b, err, out)
	p.prevResult = json.RawMessage(out)
	p.b.sh("ip -n " + p.name + " link show net1")
}

func (p *pod) check() error {
	out, err := p.command("CHECK")
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return err
}

func (p *pod) del() {
	p.b.Helper()
	out, err := p.command("DEL")
	require.NoError(p.b, err, out)
	p.b.sh("ip netns delete " + p.name)
}

// setting is what the PF says of a VF.
func (b *bench) setting(vf int) string {
	b.Helper()
	return b.sh(fmt.Sprintf("ip link show dev $(ls /sys/bus/pci/devices/%s/net) | grep 'vf %d '", pf, vf))
}

// state is what the plugin keeps of pods.
func (b *bench) state() string {
	b.Helper()
	return b.sh("find /var/lib/cni/sriov -type f ! -name '*.lock' 2>/dev/null || true")
}

// clean checks that nothing of any pod is left and that a VF works for the next one.
func (b *bench) clean(address string) {
	b.Helper()
	require.NotContains(b, b.setting(0)+b.setting(1), "vlan 100")
	require.NotContains(b, b.setting(0)+b.setting(1), mac)
	require.Empty(b, b.state())
	next := b.pod("next", address)
	next.add()
	require.NoError(b, next.check())
	next.del()
	require.NotEmpty(b, b.sh("ls /sys/bus/pci/devices/"+address+"/net"))
}

// TestNodeDamage has one node for all of it: none leaves anything.
func TestNodeDamage(t *testing.T) {
	t.Parallel()
	b := newBench(t, vm.Config{Name: "damage"})
	b.try("cable pulled", func(b *bench) {
		p, q := b.pod("one", vf0), b.pod("two", vf1)
		p.add()
		require.NoError(b, b.vm.SetLink(0, false))
		defer func() { require.NoError(b, b.vm.SetLink(0, true)) }()
		require.NoError(b, p.check(), "a link without carrier is as it was configured")
		q.add()
		p.del()
		q.del()
		b.clean(vf0)
	})
	for name, script := range map[string]string{
		"PF set down and up":             "cd /sys/bus/pci/devices/" + pf + "; ip link set $(ls net) down; ip link set $(ls net) up",
		"function-level reset of the VF": "echo 1 >/sys/bus/pci/devices/" + vf0 + "/reset",
	} {
		b.try(name, func(b *bench) {
			p := b.pod("one", vf0)
			p.add()
			b.sh(script)
			require.NoError(b, p.check())
			require.Contains(b, b.setting(0), "vlan 100")
			p.del()
			b.clean(vf0)
		})
	}
	b.try("reset of the PF", func(b *bench) {
		p := b.pod("one", vf0)
		p.add()
		b.sh("echo 1 >/sys/bus/pci/devices/" + pf + "/reset")
		p.del()
		b.sh("cd /sys/bus/pci/devices/" + pf + "; ip link set $(ls net) down; ip link set $(ls net) up")
		b.clean(vf0)
	})
	b.try("PF driver unbound and bound", func(b *bench) {
		p := b.pod("one", vf0)
		p.add()
		b.sh("echo " + pf + " >/sys/bus/pci/drivers/igb/unbind")
		err := p.check()
		b.sh("echo " + pf + " >/sys/bus/pci/drivers/igb/bind; cd /sys/bus/pci/devices/" + pf + "; ip link set $(ls net) up; echo 2 >sriov_numvfs")
		require.Error(b, err, "the VF is gone")
		require.Contains(b, err.Error(), vf0)
		p.del()
		b.clean(vf0)
	})
	b.try("VF drivers unbound and bound, and taken by vfio", func(b *bench) {
		p, q := b.pod("one", vf0), b.pod("two", vf1)
		p.add()
		q.add()
		b.sh("echo " + vf0 + " >/sys/bus/pci/drivers/igbvf/unbind")
		require.ErrorContains(b, p.check(), vf0, "the VF has no interface")
		b.sh("echo " + vf0 + " >/sys/bus/pci/drivers/igbvf/bind")
		require.ErrorContains(b, p.check(), vf0, "the VF has one, on the host")
		b.override(vf1, "vfio-pci")
		require.ErrorContains(b, q.check(), vf1)
		p.del()
		q.del()
		require.NotContains(b, b.setting(1), "vlan 100")
		b.override(vf1, "")
		b.clean(vf1)
		b.clean(vf0)
	})
	b.try("VFs gone for good", func(b *bench) {
		p, q := b.pod("one", vf0), b.pod("two", vf1)
		p.add()
		q.add()
		b.sh("echo 0 >/sys/bus/pci/devices/" + pf + "/sriov_numvfs")
		require.ErrorContains(b, p.check(), vf0)
		p.del()
		b.sh("ip netns delete two")
		out, err := q.command("DEL")
		require.NoError(b, err, out)
		require.Empty(b, b.state())
		b.recount()
		b.clean(vf0)
	})
	b.try("VF count changed, and the pod goes before its VF is another's", func(b *bench) {
		p := b.pod("one", vf0)
		p.add()
		b.recount()
		require.Error(b, p.check())
		p.del()
		b.clean(vf0)
	})
	b.try("VF count changed, and the pod goes when its VF is another's", func(b *bench) {
		p, q := b.pod("one", vf0), b.pod("two", vf0)
		p.add()
		b.recount()
		b.sh("ip netns delete one") // as a runtime does that has no more of the pod
		q.add()
		out, err := p.command("DEL")
		require.NoError(b, err, out)
		require.NoError(b, q.check(), "the DEL of the former one touches nothing of the VF")
		require.Contains(b, b.setting(0), "vlan 100")
		q.del()
		b.clean(vf0)
	})
}

// override gives a VF another driver, or, where that is empty, the one it would have.
func (b *bench) override(vf, driver string) {
	b.Helper()
	b.sh("cd /sys/bus/pci/devices/" + vf + "; echo " + driver + " >driver_override; echo " + vf + " >driver/unbind; echo " + vf + " >/sys/bus/pci/drivers_probe")
}

// recount takes all VFs away and makes as many.
func (b *bench) recount() {
	b.Helper()
	b.sh("cd /sys/bus/pci/devices/" + pf + "; echo 0 >sriov_numvfs; echo 2 >sriov_numvfs")
}

// TestNodeOtherManagers has a real systemd-udevd rename the interfaces of VFs wherever
// they appear, and NetworkManager manage them, while pods come and go.
func TestNodeOtherManagers(t *testing.T) {
	vm.Need(t)
	t.Parallel()
	b := newBench(t, vm.Config{Name: "managers", Packages: artifact.Managers})
	const rule = `SUBSYSTEM=="net", ACTION=="add", KERNELS=="` + vf0 + `", NAME="port1v0"
SUBSYSTEM=="net", ACTION=="add", KERNELS=="` + vf1 + `", NAME="port1v1"`
	b.sh("mkdir -p /etc/udev/rules.d; cat >/etc/udev/rules.d/10-vf.rules <<'END'\n" + rule + "\nEND\n/lib/systemd/systemd-udevd --daemon; udevadm settle")

	cycle := func(b *bench) {
		for i := range 5 {
			p, q := b.pod(fmt.Sprintf("one%d", i), vf0), b.pod(fmt.Sprintf("two%d", i), vf1)
			p.add()
			q.add()
			b.sh("udevadm trigger --action=add --subsystem-match=net")
			assert.NoError(b, p.check())
			p.del()
			assert.NoError(b, q.check())
			q.del()
		}
		b.sh("udevadm settle")
		require.Equal(b, "port1v0 port1v1", b.sh("cd /sys/bus/pci/devices; echo $(ls "+vf0+"/net "+vf1+"/net | grep -v : | xargs)"))
		b.clean(vf0)
	}
	b.try("udev", cycle)
	b.try("udev, right after the VFs were made", func(b *bench) {
		for i := range 3 {
			b.recount()
			p := b.pod(fmt.Sprintf("one%d", i), vf0)
			p.add()
			require.NoError(b, p.check())
			p.del()
		}
		b.sh("udevadm settle")
		b.clean(vf0)
	})
	b.sh(`grep -q ^messagebus: /etc/passwd || echo messagebus:x:100:100::/nonexistent:/usr/sbin/nologin >>/etc/passwd
		grep -q ^messagebus: /etc/group || echo messagebus:x:100: >>/etc/group
		mkdir -p /run/dbus; dbus-uuidgen --ensure; dbus-daemon --system --fork
		NetworkManager
		for i in $(seq 600); do nmcli -t general status 2>/dev/null && exit; sleep 0.1; done; exit 1`)
	b.try("NetworkManager, which takes VFs that no rule keeps from it", func(b *bench) {
		b.sh("for i in $(seq 600); do nmcli -g GENERAL.STATE device show port1v0 2>/dev/null | grep -v unmanaged && exit; sleep 0.1; done; exit 1")
		cycle(b)
	})
}
