// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/value"
	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

const zeroGUID = "00:00:00:00:00:00:00:00"

func TestGUIDPoolRefused(t *testing.T) {
	for name, tc := range map[string]struct{ pool, want string }{
		"no JSON":               {`guids`, "GUID pool: invalid character"},
		"an object":             {`{}`, "cannot unmarshal object"},
		"no PF":                 {`[{"guids":["02:00:00:00:00:00:00:01"]}]`, "entry 0: give one of pciAddress and pfGuid"},
		"a PF identified twice": {`[{"pciAddress":"0000:01:00.0","pfGuid":"02:00:00:00:00:00:00:01","guids":["02:00:00:00:00:00:00:01"]}]`, "give one of"},
		"no GUIDs":              {`[{"pciAddress":"0000:01:00.0"}]`, "give either guids, or rangeStart and rangeEnd"},
		"list and range":        {`[{"pciAddress":"a","guids":["02:00:00:00:00:00:00:01"],"rangeStart":"02:00:00:00:00:00:00:01"}]`, "give either"},
		"half a range":          {`[{"pciAddress":"a","rangeStart":"02:00:00:00:00:00:00:01"}]`, `rangeEnd: GUID "": want eight bytes`},
		"range backwards":       {`[{"pciAddress":"a","rangeStart":"02:00:00:00:00:00:00:02","rangeEnd":"02:00:00:00:00:00:00:01"}]`, "comes before"},
		"a MAC":                 {`[{"pciAddress":"a","guids":["02:00:00:00:00:01"]}]`, `guids: GUID "02:00:00:00:00:01": want eight bytes`},
		"zero":                  {`[{"pciAddress":"a","guids":["` + zeroGUID + `"]}]`, "zero means none"},
		"twice in a list":       {`[{"pciAddress":"a","guids":["02:00:00:00:00:00:00:01","02:00:00:00:00:00:00:01"]}]`, "02:00:00:00:00:00:00:01 is in it twice"},
		"twice among entries":   {`[{"pciAddress":"a","guids":["02:00:00:00:00:00:00:05"]},{"pciAddress":"b","rangeStart":"02:00:00:00:00:00:00:01","rangeEnd":"02:00:00:00:00:00:00:09"}]`, "02:00:00:00:00:00:00:05 is in it twice"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseGUIDPool([]byte(tc.pool))
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func ib(guids ...string) v1.InterfaceExt {
	pf := pfWith(func(i *v1.InterfaceExt) {
		i.LinkType, i.Mac = "IB", "00:00:10:27:fe:80:00:00:00:00:00:00:b8:3f:d2:03:00:5c:a1:10"
	}, make([]string, len(guids))...)
	for i := range guids {
		pf.VFs[i].Driver, pf.VFs[i].GUID = "mlx5_core", guids[i]
	}
	return pf
}

func TestGUIDSteps(t *testing.T) {
	const has = "02:00:00:00:00:00:99:99"
	list := `[{"pciAddress":"` + strings.ToUpper(pf0) + `","guids":["02:00:00:00:00:00:00:0a","0200.0000.0000.000b"]}]`
	byGUID := `[{"pfGuid":"b8:3f:d2:03:00:5c:a1:10","rangeStart":"02:00:00:00:00:00:00:ff","rangeEnd":"02:00:00:00:00:00:01:00"}]`
	kernel, vfio := grp("0-1", "netdevice", 0), grp("0-1", "vfio-pci", 0)
	for name, tc := range map[string]struct {
		have  v1.InterfaceExt
		group v1.VfGroup
		pool  string // "" is none
		steps []string
	}{
		"a VF with a GUID keeps it":                 {ib(has, has), kernel, list, nil},
		"a GUID that is not reported is left alone": {ib("", ""), kernel, list, nil},
		"Ethernet has none":                         {pfWith(nil, "igbvf", "igbvf"), kernel, list, nil},
		"from the list, and read at the next bind": {ib(has, zeroGUID), kernel, list, []string{
			"set GUID 1 02:00:00:00:00:00:00:0b !vf1", "bind driver 1 !vf1",
		}},
		"from the range of a PF identified by its GUID": {ib(zeroGUID, zeroGUID), kernel, byGUID, []string{
			"set GUID 0 02:00:00:00:00:00:00:ff !vf0", "bind driver 0 !vf0", "set GUID 1 02:00:00:00:00:00:01:00 !vf1", "bind driver 1 !vf1",
		}},
		"without a pool a random one": {ib(has, zeroGUID), kernel, "", []string{"set GUID 1 !vf1", "bind driver 1 !vf1"}},
		"new VFs": {ib(), kernel, list, []string{
			"create VFs 2", "set GUID 0 02:00:00:00:00:00:00:0a", "bind driver 0", "set GUID 1 02:00:00:00:00:00:00:0b", "bind driver 1",
		}},
		"vfio": {ib(has, zeroGUID), vfio, list, []string{
			"bind driver 0 vfio-pci !vf0", "set GUID 1 02:00:00:00:00:00:00:0b !vf1", "bind driver 1 vfio-pci !vf1",
		}},
		"none left: the other VF gets its own": {
			ib(zeroGUID, zeroGUID), kernel, `[{"pciAddress":"` + pf0 + `","guids":["02:00:00:00:00:00:00:0a"]}]`,
			[]string{"set GUID 0 02:00:00:00:00:00:00:0a !vf0", "bind driver 0 !vf0", "problem: VF 1: GUID pool: no GUID is left; give the PF more"},
		},
		"no entry for the PF": {
			ib(has, zeroGUID), kernel, `[{"pciAddress":"0000:09:00.0","guids":["02:00:00:00:00:00:00:0a"]}]`,
			[]string{"problem: VF 1: GUID pool: has no entry for the PF; add one, by pciAddress or pfGuid"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec := want(2, tc.group)
			have := Have{Interfaces: []v1.InterfaceExt{tc.have}, Owned: map[string]Owned{pf0: {Interface: spec}}, Planned: true}
			if tc.pool != "" {
				var err error
				have.GUIDs, err = ParseGUIDPool([]byte(tc.pool))
				require.NoError(t, err)
			}
			require.Equal(t, tc.steps, write(Steps(have, v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{spec}})))
		})
	}
}

func TestBrokenGUIDPoolConcernsInfiniBandAlone(t *testing.T) {
	have := Have{Interfaces: []v1.InterfaceExt{pfWith(nil)}, GUIDs: BrokenGUIDPool(errors.New("no JSON")), Planned: true}
	spec := v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{want(1, grp("0-0", "netdevice", 0))}}
	_, problems := Steps(have, spec)
	require.Empty(t, problems)
	have.Interfaces = []v1.InterfaceExt{ib()}
	_, problems = Steps(have, spec)
	require.Len(t, problems, 1)
	require.ErrorContains(t, problems[0].Err, "VF 0: no JSON")
}

func TestVFWithoutGUIDIsNotOffered(t *testing.T) {
	offered := DevicePlugin([]v1.InterfaceExt{ib("02:00:00:00:00:00:00:01", zeroGUID)},
		v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{want(2, grp("0-1", "netdevice", 0))}}, Exceptions{})
	require.Equal(t, []string{"vf0"}, offered.List[0].Selectors[0].PCIAddresses)
}

func FuzzGUIDPool(f *testing.F) {
	f.Add(`[{"pciAddress":"0000:01:00.0","guids":["02:00:00:00:00:00:00:01"]}]`)
	f.Add(`[{"pfGuid":"02:00:00:00:00:00:00:01","rangeStart":"ff:ff:ff:ff:ff:ff:ff:fe","rangeEnd":"ff:ff:ff:ff:ff:ff:ff:ff"}]`)
	f.Fuzz(func(t *testing.T, text string) {
		pool, err := ParseGUIDPool([]byte(text))
		if err != nil {
			return
		}
		for _, g := range pool.pfs {
			pf := &v1.InterfaceExt{PciAddress: g.address, Mac: value.GUID(g.guid).String()}
			for vf := range 4 {
				guid, err := pool.guid(pf, vf)
				if (guid == "") == (err == nil) {
					t.Fatalf("VF %d: %q and %v", vf, guid, err)
				}
			}
		}
	})
}
