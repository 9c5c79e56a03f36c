// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

func TestPremiseOfSteps(t *testing.T) {
	spec := want(2, grp("0-1", "netdevice", 0))
	spec.Vendor, spec.DeviceID, spec.Mac = "15b3", "101d", "52:54:00:00:00:01"
	broken := errors.New("input/output error")
	is := func(vendor, id, mac string) v1.InterfaceExt {
		return pfWith(func(i *v1.InterfaceExt) { i.Vendor, i.DeviceID, i.PermanentMac = vendor, id, mac }, "igbvf")
	}
	same := is("15b3", "101d", "52:54:00:00:00:01")
	short := same
	short.VFs = nil
	for name, tc := range map[string]struct {
		have Have
		want string
	}{
		"another vendor":       {Have{Interfaces: []v1.InterfaceExt{is("8086", "159b", "")}}, "planned for device 15b3:101d 52:54:00:00:00:01, but 8086:159b is there: left alone until it is planned"},
		"another vendor alone": {Have{Interfaces: []v1.InterfaceExt{is("8086", "101d", "52:54:00:00:00:01")}}, "planned for device"},
		"another device":       {Have{Interfaces: []v1.InterfaceExt{is("15b3", "1021", "52:54:00:00:00:01")}}, "planned for device"},
		"another of its kind":  {Have{Interfaces: []v1.InterfaceExt{is("15b3", "101d", "52:54:00:00:00:02")}}, "planned for device"},
		"not read":             {Have{Unread: map[string]error{pf0: broken}}, "the PF cannot be read: input/output error"},
		"not read whole":       {Have{Interfaces: []v1.InterfaceExt{same}, Unread: map[string]error{pf0: broken}}, "nothing of it is changed: input/output error"},
		"not all of its VFs":   {Have{Interfaces: []v1.InterfaceExt{short}}, "has 1 VFs, of which 0 were read: nothing of it is changed"},
		"the host in part":     {Have{Interfaces: []v1.InterfaceExt{same}, Partial: broken}, "the host was not read whole, nothing is changed: input/output error"},
		"it has no driver":     {Have{Interfaces: []v1.InterfaceExt{func() v1.InterfaceExt { i := same; i.Driver = ""; return i }()}}, "the PF has no driver: load the module of device 15b3:101d"},
		"its firmware has few": {Have{Interfaces: []v1.InterfaceExt{func() v1.InterfaceExt { i := same; i.TotalVfs = 1; return i }()}}, "mstconfig -d 0000:01:00.0 set SRIOV_EN=1 NUM_OF_VFS=2"},
	} {
		t.Run(name, func(t *testing.T) {
			works, problems := Steps(tc.have, v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{spec}})
			require.Empty(t, works)
			require.Len(t, problems, 1)
			require.ErrorContains(t, problems[0].Err, tc.want)

			t.Log("and what was applied before is not taken back either")
			tc.have.Planned, tc.have.Owned = true, map[string]Owned{pf0: {Interface: spec}}
			works, _ = Steps(tc.have, v1.SriovNetworkNodeStateSpec{})
			if tc.have.Unread != nil || tc.have.Partial != nil {
				require.Empty(t, works, "the record stays, too")
			}
			for _, w := range works {
				for _, s := range w.Steps {
					require.True(t, s.Op == OpDisown || name == "it has no driver" || name == "its firmware has few", "%s", s.Op)
				}
			}
		})
	}
	t.Run("a MAC that is not known is no other", func(t *testing.T) {
		works, problems := Steps(Have{Interfaces: []v1.InterfaceExt{is("15b3", "101d", "")}}, v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{spec}})
		require.Empty(t, problems)
		require.NotEmpty(t, works)
	})
	t.Run("a record that cannot be read", func(t *testing.T) {
		have := Have{Interfaces: []v1.InterfaceExt{pfWith(nil, "igbvf", "vfio-pci")}, Planned: true, Owned: map[string]Owned{pf0: {Unreadable: broken}}}
		require.Equal(t, []string{"problem: what was applied before is not known, so nothing is taken back; remove the record to leave the PF as it is: input/output error"},
			write(Steps(have, v1.SriovNetworkNodeStateSpec{})))
		require.Equal(t, []string{"record ownership", "bind driver 1 !vf1"}, write(Steps(have, v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{want(2, grp("0-1", "netdevice", 0))}})),
			"a wish that is there is carried out, and replaces it")
	})
	t.Run("a record of another device says nothing of this one's VFs", func(t *testing.T) {
		now, before := want(2, grp("0-0", "netdevice", 0)), spec
		before.VfGroups = []v1.VfGroup{grp("0-1", "vfio-pci", 0)}
		have := Have{Interfaces: []v1.InterfaceExt{pfWith(func(i *v1.InterfaceExt) { i.Vendor, i.DeviceID = "8086", "159b" }, "igbvf", "vfio-pci")}, Planned: true,
			Owned: map[string]Owned{pf0: {Interface: before}}}
		require.Equal(t, []string{"record ownership"}, write(Steps(have, v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{now}})))
	})
	t.Run("a record of another device undoes nothing on this one", func(t *testing.T) {
		have := Have{Interfaces: []v1.InterfaceExt{is("8086", "159b", "")}, Planned: true, Owned: map[string]Owned{pf0: {Interface: spec}}}
		require.Equal(t, []string{"drop ownership"}, write(Steps(have, v1.SriovNetworkNodeStateSpec{})))
	})
}

func TestMACSteps(t *testing.T) {
	const mac = "52:54:00:00:00:01"
	first, second := derivedMAC(mac, 0), derivedMAC(mac, 1)
	require.NotEqual(t, first, second)
	require.Equal(t, first, derivedMAC("52:54:00:00:00:01", 0), "the same after a reboot")
	eth := func(drivers ...string) v1.InterfaceExt {
		pf := pfWith(func(i *v1.InterfaceExt) { i.PermanentMac = mac }, drivers...)
		for i := range pf.VFs {
			if pf.VFs[i].Name != "" {
				pf.VFs[i].Mac = fmt.Sprintf("02:00:00:00:00:0%d", i)
			}
		}
		return pf
	}
	kernel, user := grp("0-1", "netdevice", 0), grp("0-1", "vfio-pci", 0)
	unset := map[string]bool{"vf0": true, "vf1": true}
	for name, tc := range map[string]struct {
		have  v1.InterfaceExt
		group v1.VfGroup
		noMAC map[string]bool
		steps []string
	}{
		"new VFs": {eth(), grp("0-1", "netdevice", 1400), nil, []string{
			"create VFs 2", "bind driver 0", "set administrative MAC 0 " + first, "set MTU of the VF 0 1400",
			"bind driver 1", "set administrative MAC 1 " + second, "set MTU of the VF 1 1400",
		}},
		"new VFs for vfio, before their driver": {eth(), user, nil, []string{
			"create VFs 2", "set administrative MAC 0 " + first, "bind driver 0 vfio-pci", "set administrative MAC 1 " + second, "bind driver 1 vfio-pci",
		}},
		"VFs that were there keep their own": {eth("igbvf", "igbvf"), kernel, unset, []string{
			"set administrative MAC 0 02:00:00:00:00:00 ?vf0", "set administrative MAC 1 02:00:00:00:00:01 ?vf1",
		}},
		"also when they go to vfio": {eth("igbvf", "vfio-pci"), user, unset, []string{
			"set administrative MAC 0 02:00:00:00:00:00 !vf0", "bind driver 0 vfio-pci !vf0", "set administrative MAC 1 " + second + " ?vf1",
		}},
		"one that has one keeps it":                 {eth("igbvf", "vfio-pci"), grp("0-0", "netdevice", 0), map[string]bool{"vf1": true}, nil},
		"one in a pod is left alone":                {eth("igbvf*", "igbvf*"), kernel, unset, nil},
		"what the PF does not say is not set":       {eth("igbvf", "igbvf"), kernel, nil, nil},
		"a VF in no group is left alone":            {eth("igbvf", "igbvf"), grp("0-0", "netdevice", 0), map[string]bool{"vf1": true}, nil},
		"InfiniBand has GUIDs":                      {func() v1.InterfaceExt { i := eth("igbvf", "igbvf"); i.LinkType = "IB"; return i }(), kernel, unset, nil},
		"a PF without an address leaves it at that": {pfWith(nil), kernel, nil, []string{"create VFs 2", "bind driver 0", "bind driver 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := want(2, tc.group)
			have := Have{Interfaces: []v1.InterfaceExt{tc.have}, Owned: map[string]Owned{pf0: {Interface: spec}}, Planned: true, NoMAC: tc.noMAC}
			if tc.group.VfRange == "0-0" {
				have.Interfaces[0].VFs[0].Driver = "igbvf"
			}
			require.Equal(t, tc.steps, write(Steps(have, v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{spec}})))
		})
	}
}

// A change of any field of an Interface but its names is recorded on the node.
func TestEveryFieldOfAnInterfaceIsCompared(t *testing.T) {
	names := map[string]bool{"Name": true, "AltNames": true}
	compare := func(t *testing.T, at reflect.Type, field string, change func(*v1.Interface) reflect.Value) {
		t.Helper()
		base := v1.Interface{PciAddress: pf0, VfGroups: []v1.VfGroup{{VfRange: "0-0"}}}
		other := *base.DeepCopy()
		set(t, change(&other).FieldByName(field))
		require.Equal(t, names[field] && at == reflect.TypeFor[v1.Interface](), sameInterface(base, other), "%s.%s", at.Name(), field)
	}
	for f := range fields(reflect.TypeFor[v1.Interface]()) {
		compare(t, reflect.TypeFor[v1.Interface](), f, func(i *v1.Interface) reflect.Value { return reflect.ValueOf(i).Elem() })
	}
	for f := range fields(reflect.TypeFor[v1.VfGroup]()) {
		compare(t, reflect.TypeFor[v1.VfGroup](), f, func(i *v1.Interface) reflect.Value { return reflect.ValueOf(&i.VfGroups[0]).Elem() })
	}
}

// Each field of a planned Interface is filled in from a policy or from the PF. A field that
// is forgotten would be lost on its way to the node.
func TestEveryFieldOfAnInterfaceIsPlanned(t *testing.T) {
	p := pol("a", "r1", 2, []string{"ens1", "sriov1"}, mtu(1400), external, func(s *v1.SriovNetworkNodePolicySpec) {
		s.IsRdma, s.NeedVhostNet, s.ExcludeTopology, s.LinkType, s.EswitchMode = true, true, true, "eth", v1.EswitchSwitchdev
	})
	state := node()
	state.Status.Interfaces[0].NumVfs = 2
	got := Node(Input{Policies: []*v1.SriovNetworkNodePolicy{p}, State: state}).Spec.Interfaces
	require.Len(t, got, 1)
	for f, v := range fieldsOf(got[0]) {
		require.False(t, v.IsZero(), "Interface.%s", f)
	}
	device := pol("a", "r1", 2, []string{"ens1"}, vdpa(v1.VdpaTypeVhost))
	other := Node(Input{Policies: []*v1.SriovNetworkNodePolicy{device}, State: node()}).Spec.Interfaces
	require.Len(t, other, 1)
	for f, v := range fieldsOf(got[0].VfGroups[0]) {
		require.False(t, v.IsZero() && fieldsOf(other[0].VfGroups[0])[f].IsZero(), "VfGroup.%s", f)
	}
}

func fields(t reflect.Type) map[string]reflect.StructField {
	out := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		out[f.Name] = f
	}
	return out
}

func fieldsOf(v any) map[string]reflect.Value {
	out := map[string]reflect.Value{}
	for f := range maps.Keys(fields(reflect.TypeOf(v))) {
		out[f] = reflect.ValueOf(v).FieldByName(f)
	}
	return out
}

// set changes a field to another value of its kind.
func set(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Int:
		v.SetInt(v.Int() + 1)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	default:
		t.Fatalf("a field of kind %s: say here what another value of it is", v.Kind())
	}
}
