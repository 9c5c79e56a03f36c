// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSelections(t *testing.T) {
	for value, want := range map[string]string{
		"":                "",
		"a":               "home/a",
		"a, b/c@net1,a@x": "home/a b/c home/a",
		"[]":              "",
		`[{"name":"a"}]`:  "home/a",
		`[{"name":"a","namespace":"b","ips":["10.0.0.1"],"cni-args":{"x":[1]}},{"name":"a","namespace":"b","interface":"net2"}]`: "b/a b/a",
	} {
		got, err := selections(value, "home")
		require.NoError(t, err, value)
		require.Equal(t, want, join(got, " "), value)
	}
	for value, want := range map[string]string{
		"a,,b":                          "network 2",
		"a/b/c":                         `"b/c"`,
		"A":                             `"A"`,
		`{"name":"a"}`:                  "want a JSON list",
		`[{"name":"a"},{}]`:             "network 2",
		`[{"name":3}]`:                  "want a JSON list",
		`[null]`:                        "network 1",
		strings.Repeat("a,", 256) + "a": "257 networks, want at most 256",
		"[" + strings.Repeat(`{"name":"a"},`, 256) + `{"name":"a"}]`: "257 networks, want at most 256",
		strings.Repeat("x/", 128<<10):                                `network 1: "x/x/`,
	} {
		_, err := selections(value, "home")
		require.ErrorContains(t, err, want)
		require.Less(t, len(err.Error()), 512)
	}
}

func join(all []selection, sep string) string {
	var out []string
	for _, s := range all {
		out = append(out, s.String())
	}
	return strings.Join(out, sep)
}

// Whatever an annotation holds, the result is an error or selections that, written in
// the short form, read the same again.
func FuzzSelections(f *testing.F) {
	f.Add("a, b/c@net1")
	f.Add(`[{"name":"a","namespace":"b"},{"name":"c"}]`)
	f.Add("a,")
	f.Add(`[{"Name":"x/../y"}]`)
	f.Fuzz(func(t *testing.T, value string) {
		got, err := selections(value, "home")
		if err != nil {
			require.Empty(t, got)
			return
		}
		again, err := selections(join(got, ","), "other")
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}
