// SPDX-License-Identifier: Apache-2.0

package vfstate_test

import (
	"encoding/json"
	"net"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/vfstate"
)

// samples has two values of each type of a State's fields.
var samples = map[reflect.Type][2]any{
	reflect.TypeFor[net.HardwareAddr]():  {net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}},
	reflect.TypeFor[*vfstate.VLAN]():     {&vfstate.VLAN{ID: 5, Proto: vfstate.Proto8021Q}, &vfstate.VLAN{ID: 5, QoS: 1, Proto: vfstate.Proto8021AD}},
	reflect.TypeFor[*vfstate.Rate]():     {&vfstate.Rate{Max: 7}, &vfstate.Rate{Min: 1, Max: 7}},
	reflect.TypeFor[vfstate.Switch]():    {vfstate.Off, vfstate.On},
	reflect.TypeFor[vfstate.LinkState](): {vfstate.LinkAuto, vfstate.LinkDisable},
	reflect.TypeFor[*vfstate.GUID]():     {new(vfstate.GUID(1)), new(vfstate.GUID(2))},
}

// Every field of State, also one that is added later, takes part in all that is
// said about states.
func TestEveryField(t *testing.T) {
	t.Parallel()
	for f := range reflect.TypeFor[vfstate.State]().Fields() {
		require.Contains(t, samples, f.Type, "the type of State.%s needs samples here", f.Name)
	}
	for f := range reflect.TypeFor[vfstate.State]().Fields() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			values := samples[f.Type]
			with := func(i int) (s vfstate.State) {
				reflect.ValueOf(&s).Elem().FieldByIndex(f.Index).Set(reflect.ValueOf(values[i]))
				return s
			}
			var all vfstate.State // all fields at their first value
			for g := range reflect.TypeFor[vfstate.State]().Fields() {
				reflect.ValueOf(&all).Elem().FieldByIndex(g.Index).Set(reflect.ValueOf(samples[g.Type][0]))
			}
			one, other := with(0), with(1)
			require.Len(t, one.Split(), 1, "State.%s has no row in table.go", f.Name)
			assert.Equal(t, other, vfstate.Diff(one, other))
			assert.Equal(t, other, vfstate.Diff(all, other))
			assert.Equal(t, one, vfstate.Diff(vfstate.State{}, one))
			assert.Zero(t, vfstate.Diff(all, one))
			assert.Zero(t, vfstate.Diff(all, vfstate.State{}))
			assert.False(t, one.IsZero())
			assert.Equal(t, one, all.Restrict(other))
			assert.Zero(t, vfstate.State{}.Restrict(other))
			assert.Equal(t, one, vfstate.State{}.With(one))
			assert.Equal(t, other, one.With(other))
			assert.Equal(t, all, all.With(vfstate.State{}))
			parts := one.Split()
			assert.Equal(t, one, parts[0].State)
			assert.NotEmpty(t, parts[0].Value)
			for _, s := range []vfstate.State{one, other} { // through netlink, and through JSON
				var back vfstate.State
				sent := 0
				s.Encode(3, func(attr uint16, payload []byte) { back.Decode(attr&0x3fff, payload); sent++ })
				assert.Equal(t, 1, sent)
				assert.Equal(t, s, back)
				b, err := json.Marshal(s)
				require.NoError(t, err)
				var kept vfstate.State
				require.NoError(t, json.Unmarshal(b, &kept))
				assert.Equal(t, s, kept)
			}
		})
	}
}
