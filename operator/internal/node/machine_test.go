// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// bench is a node with igb PFs, and files of its own.
type bench struct {
	Machine
	t   *testing.T
	pfs []string
}

// newBench starts and ends with no VFs and nothing owned.
func newBench(t *testing.T) *bench {
	sriovtest.NeedNode(t)
	host, err := libsriov.Open("/")
	require.NoError(t, err)
	b := &bench{Machine: Machine{Host: host, Files: Files{Root: "/"}}, t: t}
	found, err := Discover(host)
	require.NoError(t, err)
	for _, i := range found.Interfaces {
		if i.Driver == "igb" {
			b.pfs = append(b.pfs, i.PciAddress)
		}
	}
	require.GreaterOrEqual(t, len(b.pfs), 2)
	clean := func() {
		for _, pf := range b.pfs {
			require.NoError(t, host.SetNumVFs(context.Background(), b.addr(pf), 0))
			require.NoError(t, setLink(b.addr(pf), link.Update{MTU: 1500}))
			require.NoError(t, b.Files.Disown(context.Background(), b.addr(pf)))
		}
	}
	clean()
	t.Cleanup(clean)
	return b
}

// patience is longer than anything takes that does happen.
const patience = 5 * time.Minute

func (b *bench) addr(s string) libsriov.Address {
	a, err := libsriov.ParseAddress(s)
	require.NoError(b.t, err)
	return a
}

func (b *bench) found() Found {
	f, err := Discover(b.Host)
	require.NoError(b.t, err)
	return f
}

func (b *bench) pf(addr string) v1.InterfaceExt {
	b.t.Helper()
	return b.look(b.t, addr)
}

func (b *bench) look(t require.TestingT, addr string) v1.InterfaceExt {
	f, err := Discover(b.Host)
	require.NoError(t, err)
	i := slices.IndexFunc(f.Interfaces, func(i v1.InterfaceExt) bool { return i.PciAddress == addr })
	require.GreaterOrEqual(t, i, 0, "%s is not there", addr)
	return f.Interfaces[i]
}

// spec runs policies through the planner, as the operator does.
func (b *bench) spec(policies ...*v1.SriovNetworkNodePolicy) (v1.SriovNetworkNodeStateSpec, []plan.Verdict) {
	state := &v1.SriovNetworkNodeState{}
	state.Status.Interfaces = b.found().Interfaces
	r := plan.Node(plan.Input{Policies: policies, State: state})
	return r.Spec, r.Verdicts
}

// work is what would have to be done.
func (b *bench) work(spec v1.SriovNetworkNodeStateSpec) ([]plan.Work, []plan.Problem, map[string]plan.Owned) {
	f := b.found()
	owned, err := b.Files.Owned()
	require.NoError(b.t, err)
	works, problems := plan.Steps(plan.Have{
		Interfaces: f.Interfaces, RdmaMode: f.RdmaMode, RdmaOption: spec.System.RdmaMode, Owned: owned, Planned: true,
		NoMAC: b.Files.noMAC(f), NoOffload: f.NoOffload, Unread: f.Unread, Partial: f.Partial,
	}, spec)
	return works, problems, owned
}

// apply brings the node to the policies.
func (b *bench) apply(policies ...*v1.SriovNetworkNodePolicy) error {
	spec, _ := b.spec(policies...)
	works, problems, owned := b.work(spec)
	var errs []error
	for _, w := range works {
		pf := b.pf(w.PF)
		errs = append(errs, b.Apply(b.t.Context(), w, &pf, owned[w.PF]))
	}
	for _, p := range problems {
		errs = append(errs, p.Err)
	}
	return errors.Join(errs...)
}

// converged asserts that nothing is left to do, and returns the drivers of a PF's VFs.
func (b *bench) converged(pf string, policies ...*v1.SriovNetworkNodePolicy) string {
	spec, _ := b.spec(policies...)
	works, problems, _ := b.work(spec)
	require.Empty(b.t, works)
	require.Empty(b.t, problems)
	return b.drivers(pf)
}

func (b *bench) drivers(pf string) string {
	var out []string
	for _, vf := range b.pf(pf).VFs {
		out = append(out, vf.Driver)
	}
	return strings.Join(out, " ")
}

func (b *bench) resources(policies ...*v1.SriovNetworkNodePolicy) map[string]int {
	spec, _ := b.spec(policies...)
	out := map[string]int{}
	for _, r := range plan.DevicePlugin(b.found().Interfaces, spec, plan.Exceptions{}).List {
		for _, s := range r.Selectors {
			out[r.Name] += len(s.PCIAddresses)
		}
	}
	return out
}

func pol(name, resource, pf, vfs string, numVfs int, deviceType string) *v1.SriovNetworkNodePolicy {
	p := &v1.SriovNetworkNodePolicy{}
	p.Name = name
	p.Spec = v1.SriovNetworkNodePolicySpec{ResourceName: resource, NumVfs: numVfs, DeviceType: deviceType}
	if p.Spec.NicSelector.PfNames = []string{pf + vfs}; strings.Contains(pf, ":") {
		p.Spec.NicSelector = v1.SriovNetworkNicSelector{RootDevices: []string{pf}}
	}
	return p
}

func TestNodeDiscovery(t *testing.T) {
	b := newBench(t)
	pf := b.pf(b.pfs[0])
	require.Equal(t, "8086", pf.Vendor)
	require.Equal(t, "10c9", pf.DeviceID)
	require.Equal(t, 7, pf.TotalVfs)
	require.Zero(t, pf.NumVfs)
	require.Equal(t, "ETH", pf.LinkType)
	require.Equal(t, 1500, pf.Mtu)
	require.NotEmpty(t, pf.Name)
	require.NotEmpty(t, pf.Mac)
	require.Empty(t, pf.EswitchMode, "igb has no devlink")

	c, err := link.Open(nil)
	require.NoError(t, err)
	defer c.Close()
	l, err := c.ByParent(b.addr(b.pfs[0]))
	require.NoError(t, err)
	require.NoError(t, c.AddAltName(l.Index, "uplink-a"))
	t.Cleanup(func() { _ = setAltName(b.addr(b.pfs[0]), "uplink-a") })
	require.Contains(t, b.pf(b.pfs[0]).AltNames, "uplink-a")

	require.NoError(t, c.Set(l.Index, link.Update{Up: new(true)}))
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		require.Equal(t, "1000 Mb/s", b.look(t, b.pfs[0]).LinkSpeed)
	}, patience, 100*time.Millisecond)
}

func setAltName(a libsriov.Address, name string) error {
	c, err := link.Open(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.ByParent(a)
	if err != nil {
		return err
	}
	return c.DeleteAltName(l.Index, name)
}

func TestNodeNetdeviceThenGone(t *testing.T) {
	b := newBench(t)
	p := pol("p", "nics", b.pf(b.pfs[0]).Name, "", 3, "")
	p.Spec.Mtu = 2000
	require.NoError(t, b.apply(p))
	require.Equal(t, "igbvf igbvf igbvf", b.converged(b.pfs[0], p))
	require.Equal(t, map[string]int{"nics": 3}, b.resources(p))
	pf := b.pf(b.pfs[0])
	require.Equal(t, 2000, pf.Mtu)
	for _, vf := range pf.VFs {
		require.Equal(t, 2000, vf.Mtu, vf.PciAddress)
	}
	owned, err := b.Files.Owned()
	require.NoError(t, err)
	require.Equal(t, 1500, owned[b.pfs[0]].OriginalMTU)
	require.FileExists(t, "/etc/udev/rules.d/10-nm-disable-"+b.pfs[0]+".rules")

	t.Log("drift of one VF is repaired, and concerns that VF alone")
	require.NoError(t, b.Host.Unbind(t.Context(), b.addr(pf.VFs[1].PciAddress)))
	spec, _ := b.spec(p)
	works, _, _ := b.work(spec)
	require.Len(t, works, 1)
	require.Equal(t, []string{pf.VFs[1].PciAddress}, works[0].Disturbs())
	require.NoError(t, b.apply(p))
	b.converged(b.pfs[0], p)

	t.Log("a PF MTU lowered by hand is raised again, one raised is left")
	require.NoError(t, setLink(b.addr(b.pfs[0]), link.Update{MTU: 1500}))
	require.NoError(t, b.apply(p))
	require.Equal(t, 2000, b.pf(b.pfs[0]).Mtu)
	require.NoError(t, setLink(b.addr(b.pfs[0]), link.Update{MTU: 3000}))
	b.converged(b.pfs[0], p)
	require.NoError(t, setLink(b.addr(b.pfs[0]), link.Update{MTU: 2000}))

	t.Log("without the policy the node is as it was")
	require.NoError(t, b.apply())
	pf = b.pf(b.pfs[0])
	require.Zero(t, pf.NumVfs)
	require.Equal(t, 1500, pf.Mtu)
	require.NoFileExists(t, "/etc/sriov-operator/pci/"+b.pfs[0])
	require.NoFileExists(t, "/etc/udev/rules.d/10-nm-disable-"+b.pfs[0]+".rules")
}

func TestNodePartitions(t *testing.T) {
	b := newBench(t)
	name := b.pf(b.pfs[0]).Name
	user := pol("user", "dpdk", name, "#0-0", 4, "vfio-pci")
	kernel := pol("kernel", "nics", name, "#2-3", 4, "")
	require.NoError(t, b.apply(user, kernel))
	require.Equal(t, "vfio-pci igbvf igbvf igbvf", b.converged(b.pfs[0], user, kernel))
	require.Equal(t, map[string]int{"dpdk": 1, "nics": 2}, b.resources(user, kernel))

	t.Log("swapping the drivers of both groups leaves the VF between them alone")
	user.Spec.NicSelector.PfNames, kernel.Spec.NicSelector.PfNames = []string{name + "#2-3"}, []string{name + "#0-0"}
	spec, _ := b.spec(user, kernel)
	works, _, _ := b.work(spec)
	require.NotContains(t, works[0].Disturbs(), b.pf(b.pfs[0]).VFs[1].PciAddress)
	require.NoError(t, b.apply(user, kernel))
	require.Equal(t, "igbvf igbvf vfio-pci vfio-pci", b.converged(b.pfs[0], user, kernel))

	t.Log("a group that goes leaves no driver behind")
	require.NoError(t, b.apply(kernel))
	require.Equal(t, "igbvf igbvf igbvf igbvf", b.converged(b.pfs[0], kernel))

	t.Log("one resource from two PFs, by kind")
	both := pol("both", "all", "", "", 2, "")
	both.Spec.NicSelector = v1.SriovNetworkNicSelector{Vendor: "8086", DeviceID: "10c9"}
	require.NoError(t, b.apply(both))
	require.Equal(t, 2*len(b.pfs), b.resources(both)["all"])
}

func TestNodeExternallyManaged(t *testing.T) {
	b := newBench(t)
	p := pol("p", "nics", b.pfs[0], "", 2, "vfio-pci")
	p.Spec.ExternallyManaged = true
	_, verdicts := b.spec(p)
	require.Contains(t, verdicts[0].Message, "only 0 VFs exist; create them first")

	require.NoError(t, setLink(b.addr(b.pfs[0]), link.Update{Up: new(true)}))
	require.NoError(t, b.Host.SetNumVFs(t.Context(), b.addr(b.pfs[0]), 3))
	require.NoError(t, b.apply(p))
	require.Equal(t, "vfio-pci vfio-pci igbvf", b.converged(b.pfs[0], p), "and a restarted daemon finds nothing to do")
	require.NoError(t, b.apply())
	require.Equal(t, "igbvf igbvf igbvf", b.drivers(b.pfs[0]), "VFs stay, drivers go back")
}

func TestNodeHostileSpecs(t *testing.T) {
	b := newBench(t)
	p := pol("p", "nics", b.pfs[0], "", 2, "")
	require.NoError(t, b.apply(p))
	sriovtest.AwaitCarrier(t, b.addr(b.pfs[0])) // and with it the link's speed
	before := b.pf(b.pfs[0])
	for name, tc := range map[string]struct {
		change func(*v1.Interface)
		want   string
	}{
		"too many VFs":      {func(i *v1.Interface) { i.NumVfs = 70 }, "70 VFs wanted, the device has 7"},
		"switchdev on igb":  {func(i *v1.Interface) { i.EswitchMode = "switchdev" }, "does not offer eswitch modes"},
		"PF is not there":   {func(i *v1.Interface) { i.PciAddress = "0000:7f:00.0" }, "the PF is not there"},
		"not an address":    {func(i *v1.Interface) { i.PciAddress = "../../etc" }, "the PF is not there"},
		"range is nonsense": {func(i *v1.Interface) { i.VfGroups = []v1.VfGroup{{ResourceName: "x", VfRange: "z"}} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			spec, _ := b.spec(p)
			tc.change(&spec.Interfaces[0])
			f := b.found()
			_, problems := plan.Steps(plan.Have{Interfaces: f.Interfaces}, spec)
			if tc.want != "" {
				require.Len(t, problems, 1)
				require.ErrorContains(t, problems[0].Err, tc.want)
			}
			require.Equal(t, before, b.pf(b.pfs[0]), "nothing was touched")
		})
	}
}

// A VF that cannot be configured is an error that names it; the others are configured.
func TestNodeOneVFFails(t *testing.T) {
	b := newBench(t)
	p := pol("p", "nics", b.pfs[0], "", 2, "")
	require.NoError(t, b.apply(p))
	pf := b.pf(b.pfs[0])
	w := plan.Work{PF: b.pfs[0], Steps: []plan.Step{
		{Op: plan.OpBind, VF: 0, Driver: "vfio-pci"}, {Op: plan.OpBind, VF: 1, Driver: "no-such-driver"}, {Op: plan.OpBind, VF: 6, Driver: "vfio-pci"},
	}}
	err := b.Apply(t.Context(), w, &pf, plan.Owned{})
	require.ErrorContains(t, err, "VF 1 of "+b.pfs[0])
	require.ErrorContains(t, err, "VF 6 of "+b.pfs[0])
	require.Equal(t, "vfio-pci igbvf", b.drivers(b.pfs[0]))
	require.NoError(t, b.apply(p))
	require.Equal(t, "igbvf igbvf", b.converged(b.pfs[0], p))
}

// A daemon that is killed between any two steps completes them after its restart.
func TestNodeResumesAfterAnyStep(t *testing.T) {
	b := newBench(t)
	p := pol("p", "nics", b.pfs[0], "", 2, "vfio-pci")
	spec, _ := b.spec(p)
	works, _, _ := b.work(spec)
	for n := range works[0].Steps {
		pf := b.pf(b.pfs[0])
		first := plan.Work{PF: b.pfs[0], Steps: works[0].Steps[:n+1]}
		require.NoError(t, b.Apply(t.Context(), first, &pf, plan.Owned{}))
		require.NoError(t, b.apply(p), "from step %d, %s", n, works[0].Steps[n].Op)
		b.converged(b.pfs[0], p)
		require.NoError(t, b.apply())
		require.Zero(t, b.pf(b.pfs[0]).NumVfs)
	}
}

func TestFiles(t *testing.T) {
	f := Files{Root: t.TempDir()}
	owned, err := f.Owned()
	require.NoError(t, err)
	require.Empty(t, owned)

	a, b := libsriov.Address{Bus: 1}, libsriov.Address{Bus: 2}
	want := plan.Owned{Interface: v1.Interface{PciAddress: a.String(), NumVfs: 3, VfGroups: []v1.VfGroup{{VfRange: "0-2"}}}, OriginalMTU: 1500}
	require.NoError(t, f.Own(t.Context(), a, want))
	require.NoError(t, os.WriteFile(filepath.Join(f.Root, f.ownedDir(), b.String()), []byte(`{"pciAddr`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(f.Root, f.ownedDir(), "notes.txt"), []byte("?"), 0o600))
	owned, err = f.Owned()
	require.NoError(t, err)
	require.Len(t, owned, 2)
	require.Equal(t, want, owned[a.String()])
	require.ErrorContains(t, owned[b.String()].Unreadable, b.String(), "a truncated file still proves that something was applied")

	require.NoError(t, f.Disown(t.Context(), a))
	require.NoError(t, f.Disown(t.Context(), a), "twice is no error")
	require.NoFileExists(t, filepath.Join(f.Root, f.udevRule(ruleNM, a)))

	t.Log("what the upstream operator left is read")
	legacy := `{"pciAddress":"0000:03:00.0","numVfs":2,"mtu":9000,"name":"ens3","eSwitchMode":"legacy","vfGroups":[{"resourceName":"r","deviceType":"vfio-pci","vfRange":"0-1","policyName":"p","mtu":9000}]}`
	require.NoError(t, os.WriteFile(filepath.Join(f.Root, f.ownedDir(), "0000:03:00.0"), []byte(legacy), 0o600))
	owned, _ = f.Owned()
	require.Equal(t, "vfio-pci", owned["0000:03:00.0"].VfGroups[0].DeviceType)

	t.Log("the device plugin's file changes only with its content")
	changed, err := f.Offer(plan.Resources{List: []plan.Resource{}})
	require.NoError(t, err)
	require.True(t, changed)
	changed, err = f.Offer(plan.Resources{List: []plan.Resource{}})
	require.NoError(t, err)
	require.False(t, changed)
	content, err := os.ReadFile(filepath.Join(f.Root, f.resourcesDir(), "config.json"))
	require.NoError(t, err)
	require.True(t, json.Valid(content))
}
