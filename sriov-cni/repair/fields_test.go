// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"fmt"
	"net"
	"reflect"
	"testing"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whatever ADD may write through the PF, also what is added later, is undone.
func TestEveryAdminFieldIsUndone(t *testing.T) {
	t.Parallel()
	sample := map[reflect.Type]any{
		reflect.TypeFor[net.HardwareAddr]():  net.HardwareAddr{2, 0, 0, 0, 0, 1},
		reflect.TypeFor[*vfstate.VLAN]():     &vfstate.VLAN{ID: 5},
		reflect.TypeFor[*vfstate.Rate]():     &vfstate.Rate{Max: 7},
		reflect.TypeFor[vfstate.Switch]():    vfstate.Off,
		reflect.TypeFor[vfstate.LinkState](): vfstate.LinkEnable,
		reflect.TypeFor[*vfstate.GUID]():     new(vfstate.GUID(1)),
	}
	var before vfstate.State
	for f := range reflect.TypeFor[vfstate.State]().Fields() {
		require.Contains(t, sample, f.Type, "the type of State.%s needs a sample here", f.Name)
		reflect.ValueOf(&before).Elem().FieldByIndex(f.Index).Set(reflect.ValueOf(sample[f.Type]))
	}
	for f := range reflect.TypeFor[vfstate.State]().Fields() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			j := state.Journal{Before: before}
			reflect.ValueOf(&j.Want).Elem().FieldByIndex(f.Index).Set(reflect.ValueOf(sample[f.Type]))
			got := reflect.ValueOf(undoing(j))
			assert.Equal(t, sample[f.Type], got.FieldByIndex(f.Index).Interface())
			for g := range reflect.TypeFor[vfstate.State]().Fields() {
				if g.Name != f.Name && g.Name != "MAC" { // a pod changes its MAC unasked
					assert.True(t, got.FieldByIndex(g.Index).IsZero(), "%s was not ADD's", g.Name)
				}
			}
		})
	}
}

// Whatever the journal knows of an interface, also what is added later, is
// restored when it alone differs.
func TestEveryLinkFieldIsRestored(t *testing.T) {
	t.Parallel()
	for f := range reflect.TypeFor[state.Link]().Fields() {
		if f.Name == "Parent" || f.Name == "Index" { // by which it is found; a move restores the index
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			j := exampleJournal()
			is := exampleLink()
			s := situation{Have: j.Before, AtHome: true, Link: &is}
			require.Equal(t, repair{Index: 7}, planRepair(j, s))
			switch v := reflect.ValueOf(j.Link).Elem().FieldByIndex(f.Index); v.Interface().(type) {
			case string:
				v.SetString("other")
			case state.MAC:
				v.Set(reflect.ValueOf(state.MAC{2, 0, 0, 0, 0, 77}))
			case int:
				v.SetInt(77)
			case *bool:
				v.Set(reflect.ValueOf(new(!v.Elem().Bool())))
			case *string:
				v.Set(reflect.ValueOf(new("other")))
			case *uint32:
				v.Set(reflect.ValueOf(new(uint32(77))))
			case []string:
				v.Set(reflect.ValueOf([]string{"other"}))
			case bool: // of what only can be taken away
				is.XDP = 2
			default:
				require.Fail(t, "give a value", "%T", v.Interface())
			}
			assert.NotEqual(t, repair{Index: 7}, planRepair(j, s), "%s is not restored", f.Name)
		})
	}
}

// Every part of a repair's update is one that adjust does by itself.
func TestAdjustKnowsEveryPart(t *testing.T) {
	t.Parallel()
	known := fmt.Sprint([]string{"Name", "MAC", "MTU", "Alias", "TxQLen", "Group", "Up", "Promisc", "AllMulti", "NoARP", "Multicast", "Dormant", "Broadcast"}) // as in adjust
	for f := range reflect.TypeFor[link.Update]().Fields() {
		if f.Name != "NetNS" && f.Name != "NewIndex" { // the move
			assert.Contains(t, known, f.Name)
		}
	}
}
