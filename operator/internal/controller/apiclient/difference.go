// SPDX-License-Identifier: Apache-2.0

package apiclient

import (
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
)

// Difference is the merge patch that makes the struct now out of the struct old, which has
// the same type: whatever fields it has, so that none can be forgotten here. Nested
// structs are gone into, lists and maps are replaced whole.
func Difference(old, now any) map[string]any {
	patch := map[string]any{}
	was, is := reflect.ValueOf(old), reflect.ValueOf(now)
	for i := range is.NumField() {
		name, _, _ := strings.Cut(is.Type().Field(i).Tag.Get("json"), ",")
		a, b := was.Field(i), is.Field(i)
		switch {
		case equality.Semantic.DeepEqual(a.Interface(), b.Interface()):
		case b.IsZero():
			patch[name] = nil // takes the key away
		case b.Kind() == reflect.Struct:
			patch[name] = Difference(a.Interface(), b.Interface())
		default:
			patch[name] = b.Interface()
		}
	}
	return patch
}
