// SPDX-License-Identifier: Apache-2.0

package state

import (
	"net"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/stretchr/testify/require"
)

// fill sets v, and everything in it, to something that is not zero.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch sample := v.Addr().Interface().(type) {
	case *net.HardwareAddr:
		*sample = podMAC
		return
	case *MAC:
		*sample = MAC(podMAC)
		return
	case *vfstate.VLAN:
		*sample = vfstate.VLAN{ID: 5, QoS: 1, Proto: vfstate.Proto8021AD}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32:
		v.SetInt(1)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(t, field)
		}
	default:
		t.Fatalf("a field of type %s: say here what a value of it is", v.Type())
	}
}

// Every field of a journal, also one that is added later, comes back from its file, but
// for those that say not to.
func TestEveryFieldOfAJournalIsKept(t *testing.T) {
	t.Parallel()
	var want Journal
	fill(t, reflect.ValueOf(&want).Elem())
	want.Guessed, want.FormerBoot = false, false
	path := filepath.Join(t.TempDir(), "journal.json")
	require.NoError(t, Save(path, want))
	got, err := load[Journal](Store{}, path)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// Every field of a Link, also one that is added later, follows from the interface.
func TestEveryFieldOfALinkIsRead(t *testing.T) {
	t.Parallel()
	var full link.Link
	fill(t, reflect.ValueOf(&full).Elem())
	full.Flags = ^uint32(0)
	is, none := reflect.ValueOf(*LinkOf(full)), reflect.ValueOf(*LinkOf(link.Link{}))
	for f := range reflect.TypeFor[Link]().Fields() {
		require.NotEqual(t, none.FieldByIndex(f.Index).Interface(), is.FieldByIndex(f.Index).Interface(), f.Name)
		require.False(t, is.FieldByIndex(f.Index).IsZero(), f.Name)
	}
}
