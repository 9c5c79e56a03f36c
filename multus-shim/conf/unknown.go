// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// unknown lists the keys of a configuration that nothing reads. Keys with a dot or a slash
// begin with the domain of whoever reads them, and are left out.
func unknown(data []byte) []string {
	var members map[string]json.RawMessage
	if json.Unmarshal(data, &members) != nil {
		return nil
	}
	known := slices.Clone(accepted)
	for field := range reflect.TypeFor[wire]().Fields() {
		known = append(known, field.Tag.Get("json"))
	}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(members)) {
		if !strings.ContainsAny(key, "./") && !slices.Contains(known, key) {
			out = append(out, key)
		}
	}
	return out
}
