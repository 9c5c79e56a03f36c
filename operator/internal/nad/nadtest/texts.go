// SPDX-License-Identifier: Apache-2.0

// Package nadtest has texts of networks that are written to cost much, for tests.
package nadtest

import (
	"fmt"
	"strings"
)

// Limit of a free text, bytes, as the kinds have it.
const Limit = 16 << 10

// Text is a network's free texts, each at most Limit long.
type Text struct {
	IPAM, MetaPlugins, Capabilities string
	// Want is a part of what is said where the namespace may name plugins of type x alone;
	// "" where nothing is wrong.
	Want string
}

// Texts by what is odd about them.
func Texts() map[string]Text {
	fill := func(head, piece, tail string) string {
		return head + strings.Repeat(piece, (Limit-len(head)-len(tail))/len(piece)) + tail
	}
	keys := `{"type":"x"`
	for i := 0; len(keys) < Limit-10; i++ {
		keys += fmt.Sprintf(`,"%d":0`, i)
	}
	keys += "}"
	return map[string]Text{
		"one key":                     {IPAM: fill(`{"`, "k", `":1}`)},
		"as many keys as fit":         {IPAM: keys, MetaPlugins: keys},
		"a key twice that is long":    {IPAM: fill(`{"`, "k", `":1,"a":1,"a":2}`), Want: `the key "a" is there twice`},
		"a long key twice":            {IPAM: `{"` + strings.Repeat("k", 8000) + `":1,"` + strings.Repeat("k", 8000) + `":1}`, Want: `is there twice`},
		"escapes":                     {IPAM: fill(`{"a":"`, `\u0000`, `"}`), MetaPlugins: fill(`{"type":"x","a":"`, `\ud800`, `"}`)},
		"control characters":          {IPAM: fill(`{"a":"`, "\x01", `"}`), Want: "ipam: want a JSON object"},
		"bytes that are no text":      {IPAM: fill(`{"a":"`, "\xff", `"}`)},
		"brackets in brackets":        {IPAM: fill(`{"a":[`, `[[[[[]]]]],`, `1]}`)},
		"empty lists":                 {IPAM: fill(`{"a":[`, `[],`, `1]}`), MetaPlugins: fill(`{"type":"x","a":[`, `{},`, `1]}`)},
		"a number":                    {IPAM: fill(`{"a":`, "9", `}`)},
		"exponents":                   {IPAM: fill(`{"a":[`, "1e99999,", `1]}`)},
		"entries without a type":      {MetaPlugins: fill("", "{},", "{}"), Want: `metaPlugins: entry 1: want an object with a "type"`},
		"entries of nothing":          {MetaPlugins: fill("", "0,", "0"), Want: "metaPlugins: entry 1"},
		"entries that take devices":   {MetaPlugins: fill("", `{"type":"sriov"},`, `{"type":"sriov"}`), Want: `metaPlugins: entry 1: type "sriov" takes a device`},
		"entries of no allowed type":  {MetaPlugins: fill("", `{"type":"y"},`, `{"type":"y"}`), Want: `metaPlugins: type "y"`},
		"a type":                      {MetaPlugins: fill(`{"type":"`, "t", `"}`), Want: "may name no other plugins"},
		"a type of quotes":            {MetaPlugins: fill(`{"type":"`, `\"`, `"}`), Want: "may name no other plugins"},
		"names of the node, at depth": {IPAM: `{"a":` + strings.Repeat(`[{"b":`, 15) + `{"dataDir":"/"}` + strings.Repeat("}]", 15) + "}", Want: `"dataDir" names something`},
		"types at depth":              {IPAM: `{"a":` + strings.Repeat(`[{"b":`, 15) + `{"type":"bridge"}` + strings.Repeat("}]", 15) + "}", Want: `type "bridge" takes`},
		"white space":                 {IPAM: fill("", " ", ""), MetaPlugins: fill("", "\n", ""), Capabilities: fill("", "\t", "")},
		"white space around":          {IPAM: fill("{", " ", "}"), Capabilities: fill(`{"mac":`, "\n", "true}")},
		"capabilities twice":          {Capabilities: fill("{", `"mac":true,`, `"mac":false}`)},
		"capabilities of lists":       {Capabilities: fill("{", `"a":[],`, `"b":true}`), Want: "capabilities: want"},
		"all at once":                 {IPAM: fill("[", "[],", "0]"), MetaPlugins: fill("", "0,", "0"), Capabilities: fill("[", "0,", "0]"), Want: "ipam: want a JSON object"},
	}
}
