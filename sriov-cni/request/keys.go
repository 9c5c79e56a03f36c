// SPDX-License-Identifier: Apache-2.0

package request

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/containernetworking/cni/pkg/types"
)

// Bounds of what arrives on stdin. Real configurations have some kilobytes and
// a depth of some ten.
const (
	MaxStdin = 4 << 20   // bytes, with the attachments of a whole node in a GC
	maxValue = 256 << 10 // bytes of one key's value
	maxDepth = 64        // of objects and lists in each other
	maxKeys  = 4 << 10   // of the configuration
)

// ValidAttachments is the key by which GC is told what there is.
const ValidAttachments = "cni.dev/valid-attachments"

// member is one key of a JSON object, with its value as it is written there.
type member struct {
	key   string
	value []byte
}

// members takes a JSON object apart, in one pass and in constant memory, and calls visit
// for each member. Other than objects have none. Syntax is not checked; the error is
// about nesting.
func members(b []byte, visit func(member)) error {
	var m member
	depth, start := 0, -1 // of the value; -1 is where a key is next
	flush := func(end int) {
		if start >= 0 {
			m.value = bytes.TrimSpace(b[start:end])
			visit(m)
		}
		m, start = member{}, -1
	}
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			end := i + stringLen(b[i:])
			if depth == 1 && start < 0 && b[0] != '[' {
				m.key = keyOf(b[i:min(end, len(b))])
			}
			i = end - 1
		case ':':
			if depth == 1 && start < 0 {
				start = i + 1
			}
		case '{', '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("invalid %s: nested more than %d deep", orConfiguration(m.key), maxDepth)
			}
		case '}', ']':
			if depth == 1 {
				flush(i)
			}
			depth--
		case ',':
			if depth == 1 {
				flush(i)
			}
		}
	}
	return nil
}

// keyOf decodes a JSON string, "" for what is none.
func keyOf(text []byte) (key string) {
	if plain := bytes.Trim(text, `"`); len(plain) == len(text)-2 && !bytes.ContainsFunc(plain, func(r rune) bool { return r == '\\' || r < ' ' || r == utf8.RuneError }) {
		return string(plain)
	}
	_ = json.Unmarshal(text, &key)
	return key
}

// CheckStdin bounds size and nesting of what arrives on stdin, before anything
// decodes it. DEL goes on with what ADD refuses, for a network may have become so since.
func CheckStdin(b []byte, command string) *types.Error {
	if len(b) > MaxStdin {
		return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("configuration has more than %d bytes", MaxStdin), "")
	}
	if command == "DEL" {
		return nil
	}
	var errs []error
	count, versions := 0, 0 // package skel reads the version on its own, whatever checkKeys says of it
	err := members(b, func(m member) {
		if count++; count == maxKeys+1 {
			errs = append(errs, fmt.Errorf("configuration has more than %d keys", maxKeys))
		}
		if len(m.value) > maxValue && (m.key != ValidAttachments || command != "GC") {
			errs = append(errs, fmt.Errorf("invalid %s: %d bytes, want at most %d", shorten(m.key), len(m.value), maxValue))
		}
		if strings.EqualFold(m.key, "cniVersion") {
			if versions++; versions == 2 {
				errs = append(errs, errors.New("invalid cniVersion: the key is there twice"))
			}
		}
	})
	if err := errors.Join(append(errs, err)...); err != nil {
		return types.NewError(types.ErrInvalidNetworkConfig, err.Error(), "")
	}
	return nil
}

func orConfiguration(key string) string {
	if key == "" {
		return "configuration"
	}
	return shorten(key)
}

// shorten cuts a key of the configuration for a message.
func shorten(key string) string {
	if len(key) > 60 {
		return strings.ToValidUTF8(key[:60], "") + "..."
	}
	return key
}

// stringLen is the length of the JSON string that b begins with, quotes included.
func stringLen(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// known are the keys of the configuration, and of the objects in it of which this
// plugin reads something: those that the types have.
var known = map[string][]string{
	"":              keysOf(reflect.TypeFor[Conf]()),
	"runtimeConfig": keysOf(reflect.TypeFor[RuntimeConfig]()),
	"ipam":          keysOf(reflect.TypeFor[types.IPAM]()),
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		if f.Anonymous {
			keys = append(keys, keysOf(f.Type)...)
		} else if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "-" && key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// checkKeys looks for what decoding would let pass: a key that is there twice or
// in another spelling, of which the last would count, null, and values too long
// to be any. It returns the keys that nothing reads, which are most often typing
// errors ("max-tx-rate").
func checkKeys(stdin []byte) (unknown []string, err error) {
	return checkObject("", stdin)
}

func checkObject(path string, object []byte) (unknown []string, err error) {
	prefix := path
	if path != "" {
		prefix += "."
	}
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("invalid %s: "+format, append([]any{prefix + shorten(key)}, args...)...))
	}
	seen := map[string]bool{}
	err = members(object, func(m member) {
		i := slices.IndexFunc(known[path], func(k string) bool { return strings.EqualFold(k, m.key) })
		var inside error
		if path == "" && known[m.key] != nil {
			_, inside = checkObject(m.key, m.value)
		}
		switch {
		case inside != nil:
			errs = append(errs, inside)
		case len(m.value) > maxValue:
			bad(m.key, "%d bytes, want at most %d", len(m.value), maxValue)
		case i < 0 && !strings.Contains(m.key, "/"):
			unknown = append(unknown, shorten(m.key))
		case i < 0:
		case m.key != known[path][i]:
			bad(m.key, "write the key as %q", known[path][i])
		case seen[m.key]:
			bad(m.key, "the key is there twice")
		case string(m.value) == "null":
			bad(m.key, "null; leave the key out")
		}
		seen[m.key] = true
	})
	slices.Sort(unknown)
	return slices.Compact(unknown), errors.Join(append(errs, err)...)
}
