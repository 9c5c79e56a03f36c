// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"

	hw "github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// run has a daemon keep the node as policies say, woken by nothing but hardware events.
func (b *bench) run(policies ...*v1.SriovNetworkNodePolicy) {
	b.t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(b.t, v1.AddToScheme(scheme))
	state := &v1.SriovNetworkNodeState{}
	state.Namespace, state.Name = "ns", "node"
	state.Annotations = map[string]string{v1.AnnotationDesiredState: v1.DrainIdle, v1.AnnotationCurrentState: v1.DrainIdle, v1.AnnotationPlanned: "true", v1.AnnotationPlannedPFs: strings.Join(b.pfs, ",")}
	state.Spec, _ = b.spec(policies...)
	d := &Daemon{
		Client: fake.NewClientBuilder().WithScheme(scheme).WithObjects(state).WithStatusSubresource(state).Build(),
		Events: events.NewFakeRecorder(1000), Machine: b.Machine, NodeState: client.ObjectKeyFromObject(state),
	}
	d.Live = d.Client
	d.hardware.changed = make(chan event.GenericEvent)
	ctx, cancel := context.WithCancel(b.t.Context())
	watched, worked := make(chan error, 1), make(chan struct{})
	go func() { watched <- d.hardware.watch(ctx) }()
	// A look in the middle of somebody's change may fail. The queue tries again; so does this.
	var again <-chan time.Time
	reconcile := func() {
		result, err := d.Reconcile(ctx, ctrl.Request{NamespacedName: d.NodeState})
		again = time.After(result.RequeueAfter)
		if err != nil && ctx.Err() == nil {
			b.t.Logf("tried again: %v", err)
			again = time.After(100 * time.Millisecond)
		}
	}
	reconcile()
	go func() {
		defer close(worked)
		for {
			select {
			case <-d.hardware.changed:
				reconcile()
			case <-again:
				reconcile()
			case <-ctx.Done():
				return
			}
		}
	}()
	b.t.Cleanup(func() {
		cancel()
		require.NoError(b.t, <-watched)
		<-worked
	})
}

// An MTU that was lowered and a PF that was set down by hand are repaired on the link event.
func TestNodeDriftOfLinksIsMended(t *testing.T) {
	b := newBench(t)
	p := pol("p", "nics", b.pfs[0], "", 2, "")
	p.Spec.Mtu = 2000
	b.run(p)
	vf := b.addr(b.pf(b.pfs[0]).VFs[1].PciAddress)
	asWanted := func(t *assert.CollectT) {
		pf := b.look(t, b.pfs[0])
		require.Equal(t, 2000, pf.Mtu)
		require.Equal(t, "up", pf.LinkAdminState)
		require.Len(t, pf.VFs, 2)
		require.Equal(t, [2]int{2000, 2000}, [2]int{pf.VFs[0].Mtu, pf.VFs[1].Mtu})
	}
	require.EventuallyWithT(t, asWanted, patience, 20*time.Millisecond)
	device := map[string]string{"MTU of the PF": b.pfs[0], "PF down": b.pfs[0], "MTU of a VF": vf.String()}
	for name, drift := range map[string]func() error{
		"MTU of the PF": func() error { return setLink(b.addr(b.pfs[0]), link.Update{MTU: 1500}) },
		"PF down":       func() error { return setLink(b.addr(b.pfs[0]), link.Update{Up: new(false)}) },
		"MTU of a VF":   func() error { return setLink(vf, link.Update{MTU: 1500}) },
	} {
		t.Run(name, func(t *testing.T) {
			links, err := hw.OpenLinks(nil)
			require.NoError(t, err)
			defer links.Close()
			require.NoError(t, drift())
			begun := time.Now()
			for drifted := false; ; { // the event of the drift itself comes first
				e, err := links.Next(t.Context())
				require.NoError(t, err)
				if e.Link.Parent != device[name] {
					continue
				}
				good := e.Link.MTU == 2000 && (e.Link.Up() || name == "MTU of a VF")
				if drifted && good {
					break
				}
				drifted = drifted || !good
			}
			t.Logf("mended after %s", time.Since(begun))
			require.EventuallyWithT(t, asWanted, patience, 100*time.Millisecond)
		})
	}
	t.Run("a VF in the middle of a pass", func(t *testing.T) {
		links, err := hw.OpenLinks(nil)
		require.NoError(t, err)
		defer links.Close()
		require.NoError(t, setLink(b.addr(b.pfs[0]), link.Update{MTU: 1500}))
		for drifted := false; ; { // until the pass has mended the PF, and will observe it again
			e, err := links.Next(t.Context())
			require.NoError(t, err)
			if e.Link.Parent == b.pfs[0] && drifted && e.Link.MTU == 2000 {
				break
			}
			drifted = drifted || e.Link.Parent == b.pfs[0] && e.Link.MTU == 1500
		}
		require.NoError(t, setLink(vf, link.Update{MTU: 1500}))
		require.EventuallyWithT(t, asWanted, patience, 100*time.Millisecond)
	})
}

// adminMACs returns the MACs that the PF reports for its VFs.
func (b *bench) adminMACs(pf string) []string {
	c, err := link.Open(nil)
	require.NoError(b.t, err)
	defer c.Close()
	l, err := c.ByParent(b.addr(pf))
	require.NoError(b.t, err)
	var out []string
	require.EventuallyWithT(b.t, func(t *assert.CollectT) { // a PF may leave out a VF that is being reset
		states, err := c.VFStates(l.Index)
		require.NoError(t, err)
		require.Len(t, states, len(b.pf(pf).VFs))
		out = make([]string, len(states))
		for vf, s := range states {
			out[vf] = s.MAC.String()
		}
	}, patience, 20*time.Millisecond)
	return out
}

// VFs of any device type get an administrative MAC and keep it when their driver changes and
// over a reboot.
func TestNodeAdministrativeMAC(t *testing.T) {
	const zero = "00:00:00:00:00:00"
	b := newBench(t)
	user := pol("user", "dpdk", b.pfs[0], "", 3, v1.DeviceTypeVFIO)
	kernel := pol("kernel", "nics", b.pfs[0], "", 3, "")
	require.NoError(t, b.apply(user))
	macs := b.adminMACs(b.pfs[0])
	require.Len(t, macs, 3)
	for _, mac := range macs {
		require.NotEqual(t, zero, mac)
	}
	require.Equal(t, "vfio-pci vfio-pci vfio-pci", b.converged(b.pfs[0], user))

	t.Log("over a change of driver")
	require.NoError(t, b.apply(kernel))
	require.Equal(t, macs, b.adminMACs(b.pfs[0]))
	b.converged(b.pfs[0], kernel)
	own := func() (out []string) {
		for _, vf := range b.pf(b.pfs[0]).VFs {
			out = append(out, vf.Mac)
		}
		return out
	}
	require.Equal(t, macs, own(), "and the interfaces have it")
	require.NoError(t, b.Host.Unbind(t.Context(), b.addr(b.pf(b.pfs[0]).VFs[1].PciAddress)))
	require.NoError(t, b.apply(kernel))
	require.Equal(t, macs, own())

	t.Log("over a reboot, which takes the VFs")
	require.NoError(t, b.Host.SetNumVFs(t.Context(), b.addr(b.pfs[0]), 0))
	require.NoError(t, b.apply(kernel))
	require.Equal(t, macs, b.adminMACs(b.pfs[0]))
	require.Equal(t, macs, own())
	b.converged(b.pfs[0], kernel)

	t.Log("VFs that others made get their own")
	require.NoError(t, b.apply())
	require.NoError(t, setLink(b.addr(b.pfs[0]), link.Update{Up: new(true)}))
	require.NoError(t, b.Host.SetNumVFs(t.Context(), b.addr(b.pfs[0]), 3))
	theirs := own()
	require.NotEqual(t, macs, theirs)
	kernel.Spec.ExternallyManaged = true
	require.NoError(t, b.apply(kernel))
	require.Equal(t, theirs, b.adminMACs(b.pfs[0]))
	require.Equal(t, theirs, own())

	t.Log("one that a CNI plugin set for a pod is left alone")
	pods := "02:00:00:00:00:77"
	b.setAdminMAC(0, pods)
	require.NoError(t, b.apply(kernel))
	require.Equal(t, pods, b.adminMACs(b.pfs[0])[0])
}

func (b *bench) setAdminMAC(vf int, mac string) {
	c, err := link.Open(nil)
	require.NoError(b.t, err)
	defer c.Close()
	l, err := c.ByParent(b.addr(b.pfs[0]))
	require.NoError(b.t, err)
	hw, err := net.ParseMAC(mac)
	require.NoError(b.t, err)
	require.NoError(b.t, c.SetVF(l.Index, vf, vfstate.State{MAC: hw}))
}

// A PF whose netdev is in another namespace or has another name keeps its VFs until its
// policy is deleted.
func TestNodePFWithoutItsName(t *testing.T) {
	b := newBench(t)
	name := b.pf(b.pfs[0]).Name
	p := pol("p", "nics", name, "", 2, "")
	state := &v1.SriovNetworkNodeState{}
	state.Status.Interfaces = b.found().Interfaces
	again := func() (steps int) {
		f := b.found()
		state.Status.Interfaces = f.Interfaces
		state.Spec = plan.Node(plan.Input{Policies: []*v1.SriovNetworkNodePolicy{p}, State: state}).Spec
		works, problems, owned := b.work(state.Spec)
		require.Empty(t, problems)
		for _, w := range works {
			pf := b.pf(w.PF)
			require.NoError(t, b.Apply(t.Context(), w, &pf, owned[w.PF]))
		}
		return len(works)
	}
	require.Equal(t, 1, again())
	require.Zero(t, again())
	c, err := link.Open(nil)
	require.NoError(t, err)
	defer c.Close()
	l, err := c.ByParent(b.addr(b.pfs[0]))
	require.NoError(t, err)

	t.Log("renamed")
	require.NoError(t, c.Set(l.Index, link.Update{Up: new(false)}))
	require.NoError(t, c.Set(l.Index, link.Update{Name: "renamed0"}))
	require.NoError(t, c.Set(l.Index, link.Update{Up: new(true)}))
	t.Cleanup(func() {
		_ = setLink(b.addr(b.pfs[0]), link.Update{Up: new(false)})
		require.NoError(t, setLink(b.addr(b.pfs[0]), link.Update{Name: name}))
	})
	require.Zero(t, again())
	require.Equal(t, 2, b.pf(b.pfs[0]).NumVfs)

	t.Log("in another network namespace")
	ns := sriovtest.NewNetNS(t)
	home, err := os.Open("/proc/self/ns/net")
	require.NoError(t, err)
	defer home.Close()
	there, err := link.Open(ns)
	require.NoError(t, err)
	defer there.Close()
	require.NoError(t, c.Set(l.Index, link.Update{NetNS: ns}))
	t.Cleanup(func() { _ = there.Set(l.Index, link.Update{NetNS: home}) })
	require.Empty(t, b.pf(b.pfs[0]).Name)
	require.Zero(t, again())
	require.Equal(t, 2, b.pf(b.pfs[0]).NumVfs)
	require.NoError(t, there.Set(l.Index, link.Update{NetNS: home}))
	again() // it arrives down
	require.Equal(t, 2, b.pf(b.pfs[0]).NumVfs)
	require.Zero(t, again())

	t.Log("until the policy goes")
	p.Spec.NicSelector.PfNames = []string{"other0"}
	require.Equal(t, 1, again())
	require.Zero(t, b.pf(b.pfs[0]).NumVfs)
}
