// SPDX-License-Identifier: Apache-2.0

// Package rawjson edits JSON objects member by member. What is not edited keeps its bytes:
// integers beyond 2^53, escapes and the order of members all survive, which a trip through
// map[string]any does not offer.
//
// Keys are matched as encoding/json matches them to struct fields: in any case, the last
// member counts. Whoever reads the object later is a Go program that does the same, so a key
// in another spelling must not be missed here.
package rawjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
)

// MaxDepth is how deep objects and lists may be nested in what Parse reads. CNI
// configurations and results need less than ten levels.
const MaxDepth = 32

var (
	// ErrNotObject: the value is JSON but not an object.
	ErrNotObject = errors.New("not a JSON object")
	// ErrTooDeep: the value is nested deeper than MaxDepth.
	ErrTooDeep = fmt.Errorf("JSON is nested deeper than %d levels", MaxDepth)
)

// Member is one key of an object with its value as it was written.
type Member struct {
	Key   string
	Value json.RawMessage
}

// Object is a JSON object in the order of its source.
type Object []Member

// Parse reads one JSON object and nothing after it. Values are compacted.
func Parse(data []byte) (Object, error) {
	if err := CheckDepth(data); err != nil {
		return nil, err
	}
	return ParseTrusted(data)
}

// CheckDepth finds nesting beyond MaxDepth without parsing anything.
func CheckDepth(data []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++ // an escaped quote does not end the string
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return ErrTooDeep
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// ParseTrusted is Parse for files of this node, which older programs wrote
// without a limit on depth.
func ParseTrusted(data []byte) (Object, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		return nil, err
	}
	object, ok := split(compact.Bytes())
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNotObject, brief.Text(string(bytes.TrimSpace(data))))
	}
	return object, nil
}

// split takes an object apart that is valid JSON without white space; false for
// another value. The parts share the memory of the whole.
func split(compact []byte) (Object, bool) {
	if len(compact) < 2 || compact[0] != '{' {
		return nil, false
	}
	object := Object{}
	for rest := compact[1:]; rest[0] != '}'; {
		end := valueEnd(rest)
		m := Member{Key: text(rest[:end])}
		rest = rest[end+1:] // the colon
		end = valueEnd(rest)
		m.Value = json.RawMessage(rest[:end:end])
		object = append(object, m)
		if rest = rest[end:]; rest[0] == ',' {
			rest = rest[1:]
		}
	}
	return object, true
}

// valueEnd is the length of the value that data begins with.
func valueEnd(data []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++ // an escaped quote does not end the string
		case c == '"':
			if quoted = !quoted; !quoted && depth == 0 {
				return i + 1
			}
		case quoted:
		case c == '{' || c == '[':
			depth++
		case depth == 0 && (c == ',' || c == '}' || c == ']'):
			return i
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(data)
}

// text is what a JSON string says.
func text(quoted []byte) string {
	if plain := quoted[1 : len(quoted)-1]; !bytes.ContainsRune(plain, '\\') && utf8.Valid(plain) {
		return string(plain)
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // the caller has validated it
	return s
}

// Get returns the value of key, in any spelling, as a reader would see it.
func (o Object) Get(key string) (json.RawMessage, bool) {
	for _, m := range slices.Backward(o) {
		if strings.EqualFold(m.Key, key) {
			return m.Value, true
		}
	}
	return nil, false
}

// Decode unmarshals the value of key into target and leaves target alone when
// the key is absent.
func (o Object) Decode(key string, target any) error {
	value, ok := o.Get(key)
	if !ok {
		return nil
	}
	if err := json.Unmarshal(value, target); err != nil {
		return fmt.Errorf("%q: %w", key, err)
	}
	return nil
}

// With returns a copy of o in which key, spelled like this, has the given value:
// in its old place, or at the end. Every other member that a reader would take
// for it is dropped.
func (o Object) With(key string, value json.RawMessage) Object {
	out := make(Object, 0, len(o)+1)
	placed := false
	for _, m := range o {
		switch {
		case !strings.EqualFold(m.Key, key):
			out = append(out, m)
		case !placed:
			out = append(out, Member{key, value})
			placed = true
		}
	}
	if !placed {
		out = append(out, Member{key, value})
	}
	return out
}

// Without returns a copy of o that lacks the keys in every spelling.
func (o Object) Without(keys ...string) Object {
	out := make(Object, 0, len(o))
	for _, m := range o {
		if !matches(keys, m.Key) {
			out = append(out, m)
		}
	}
	return out
}

// Canonical returns o with the given keys spelled like this and present once at
// most. A key that stands there in two spellings is an error: readers differ on
// which of them counts.
func (o Object) Canonical(keys ...string) (Object, error) {
	found := map[string]string{}
	changed := false
	for _, m := range o {
		i := slices.IndexFunc(keys, func(key string) bool { return strings.EqualFold(key, m.Key) })
		if i < 0 {
			continue
		}
		other, repeated := found[keys[i]]
		if repeated && other != m.Key {
			return nil, fmt.Errorf("%q and %q are two spellings of one key: keep %q only", other, m.Key, keys[i])
		}
		found[keys[i]] = m.Key
		changed = changed || repeated || m.Key != keys[i]
	}
	if !changed {
		return o, nil
	}
	for key := range found {
		value, _ := o.Get(key)
		o = o.With(key, value)
	}
	return o, nil
}

// Merge returns o with every member of over laid on top, by exact key: keys of
// user data differ by case. Where both sides hold an object the two are merged,
// anything else is replaced.
func (o Object) Merge(over Object) Object {
	out := slices.Clone(o)
	at := map[string]int{}
	for i, m := range out {
		at[m.Key] = i
	}
	for _, m := range over {
		i, ok := at[m.Key]
		if !ok {
			at[m.Key] = len(out)
			out = append(out, m)
			continue
		}
		below, isObject := split(out[i].Value)
		if above, both := split(m.Value); isObject && both {
			m.Value = below.Merge(above).Bytes()
		}
		out[i].Value = m.Value
	}
	return out
}

func matches(keys []string, key string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) })
}

// Bytes prints the object without white space.
func (o Object) Bytes() json.RawMessage {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			out.WriteByte(',')
		}
		writeKey(&out, m.Key)
		out.WriteByte(':')
		out.Write(m.Value)
	}
	out.WriteByte('}')
	return out.Bytes()
}

// writeKey quotes a key. Keys of plain ASCII are written as they are: an encoder for each
// of 30 000 keys takes 5 ms, which is six times as long.
func writeKey(out *bytes.Buffer, key string) {
	special := func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }
	if strings.ContainsFunc(key, special) {
		out.Write(Marshal(key))
		return
	}
	out.WriteByte('"')
	out.WriteString(key)
	out.WriteByte('"')
}

// Marshal is json.Marshal without HTML escapes, for values that cannot fail:
// strings, numbers, and slices and maps of them.
func Marshal(v any) json.RawMessage {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("rawjson: marshal %T: %v", v, err))
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
