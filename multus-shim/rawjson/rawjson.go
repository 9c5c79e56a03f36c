// Package rawjson edits JSON objects member by member. What is not edited keeps
// its bytes: integers beyond 2^53, escapes and the order of members all survive,
// which a trip through map[string]any does not offer.
package rawjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// ErrNotObject: the value is JSON but not an object.
var ErrNotObject = errors.New("not a JSON object")

// Member is one key of an object with its value as it was written.
type Member struct {
	Key   string
	Value json.RawMessage
}

// Object is a JSON object in the order of its source. A key may occur twice;
// readers then see the last one, as encoding/json does.
type Object []Member

// Parse reads one JSON object and nothing after it. Values are compacted.
func Parse(data []byte) (Object, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(&compact)
	open, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if open != json.Delim('{') {
		return nil, fmt.Errorf("%w: %s", ErrNotObject, excerpt(data))
	}
	object := Object{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		object = append(object, Member{Key: key.(string), Value: value}) // a key is always a string
	}
	return object, nil
}

// Get returns the value of key as a reader would see it.
func (o Object) Get(key string) (json.RawMessage, bool) {
	for _, m := range slices.Backward(o) {
		if m.Key == key {
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

// With returns a copy of o in which key has the given value: in its old place,
// or at the end. Repeated members of the same key are dropped.
func (o Object) With(key string, value json.RawMessage) Object {
	out := make(Object, 0, len(o)+1)
	placed := false
	for _, m := range o {
		switch {
		case m.Key != key:
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

// Merge returns o with every member of over laid on top. Where both sides hold
// an object the two are merged, anything else is replaced.
func (o Object) Merge(over Object) Object {
	for _, m := range over {
		value := m.Value
		if have, ok := o.Get(m.Key); ok {
			below, errBelow := Parse(have)
			above, errAbove := Parse(m.Value)
			if errBelow == nil && errAbove == nil {
				value = below.Merge(above).Bytes()
			}
		}
		o = o.With(m.Key, value)
	}
	return o
}

// Bytes prints the object without white space.
func (o Object) Bytes() json.RawMessage {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(Marshal(m.Key))
		out.WriteByte(':')
		out.Write(m.Value)
	}
	out.WriteByte('}')
	return out.Bytes()
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

func excerpt(data []byte) string {
	const limit = 60
	data = bytes.TrimSpace(data)
	if len(data) > limit {
		return string(data[:limit]) + "..."
	}
	return string(data)
}
