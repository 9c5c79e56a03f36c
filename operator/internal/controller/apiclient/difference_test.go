// SPDX-License-Identifier: Apache-2.0

package apiclient

import (
	"encoding/json"
	"reflect"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// fill sets v, and what is in it, to something.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Int:
		v.SetInt(7)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("k"), reflect.ValueOf("x"))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	}
}

// eachField calls visit for every field below v, with its path.
func eachField(v reflect.Value, path string, visit func(path string, field reflect.Value)) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			p := path + "." + v.Type().Field(i).Name
			visit(p, v.Field(i))
			eachField(v.Field(i), p, visit)
		}
	case reflect.Slice:
		if v.Len() == 0 {
			return // visit has emptied it
		}
		eachField(v.Index(0), path+"[0]", visit)
	case reflect.Pointer:
		if !v.IsNil() {
			eachField(v.Elem(), path, visit)
		}
	}
}

// For every field of the spec, at any depth: changing only it gives a patch, and the patch
// makes the one spec out of the other, in both directions.
func TestEveryFieldOfTheSpecIsPatched(t *testing.T) {
	t.Parallel()
	filled := func() *v1.SriovNetworkNodeStateSpec {
		s := &v1.SriovNetworkNodeStateSpec{}
		fill(reflect.ValueOf(s).Elem())
		return s
	}
	count := 0
	eachField(reflect.ValueOf(filled()).Elem(), "spec", func(path string, _ reflect.Value) {
		count++
		other := filled()
		eachField(reflect.ValueOf(other).Elem(), "spec", func(p string, field reflect.Value) {
			if p == path {
				field.SetZero()
			}
		})
		for _, pair := range [][2]*v1.SriovNetworkNodeStateSpec{{filled(), other}, {other, filled()}} {
			patch, err := json.Marshal(Difference(*pair[0], *pair[1]))
			require.NoError(t, err)
			require.NotEqual(t, "{}", string(patch), path)
			before, err := json.Marshal(pair[0])
			require.NoError(t, err)
			after, err := jsonpatch.MergePatch(before, patch)
			require.NoError(t, err)
			want, err := json.Marshal(pair[1])
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(after), "%s: %s", path, patch)
		}
	})
	require.Greater(t, count, 30)
	require.Empty(t, Difference(*filled(), *filled()))
}
