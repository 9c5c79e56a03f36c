// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxErrors is how many things that are wrong are told, of what may be thousands.
const maxErrors = 20

// decoder walks the parsed document and collects what is wrong.
type decoder struct {
	data  []byte
	pool  string
	errs  []error
	other int // things that are wrong beside errs
}

func (d *decoder) fail(offset int, err error) {
	if len(d.errs) == maxErrors {
		d.other++
		return
	}
	d.errs = append(d.errs, &PositionError{Position: position(d.data, offset), Pool: d.pool, Err: err})
}

func (d *decoder) err() error {
	if d.other > 0 {
		d.errs = append(d.errs, fmt.Errorf(" and %d more like these", d.other))
	}
	return errors.Join(d.errs...)
}

// fields maps each key of an object to what reads its value.
type fields map[string]func(node)

// object reads the members of an object. Keys match in any case; null is as
// good as absent; unknown keys and keys given twice are errors.
func (d *decoder) object(n node, what string, known fields) {
	if !n.isObj {
		d.fail(n.offset, fmt.Errorf("%s is %s; want an object {…}", what, n.kind()))
		return
	}
	byFold := map[string]string{}
	for key := range known {
		byFold[strings.ToLower(key)] = key
	}
	seen := map[string]bool{}
	for _, m := range n.object {
		key, ok := byFold[strings.ToLower(m.key)]
		switch {
		case !ok && m.value.saysNothing():
			continue // programs that serialise their structs leave such keys behind
		case !ok:
			d.fail(m.offset, fmt.Errorf("unknown key %.40q in %s; %s", m.key, what, suggest(m.key, what, known)))
		case seen[key]:
			d.fail(m.offset, fmt.Errorf("key %q appears twice in %s", key, what))
		case !m.value.isNull():
			known[key](m.value)
		}
		seen[key] = true
	}
}

// suggest names the place that was probably meant, or the key: one that begins the same way.
func suggest(key, what string, known fields) string {
	for _, elsewhere := range []struct {
		what string
		keys []string
	}{{"a pool", poolKeys}, {"a selector", selectorKeys()}} {
		i := slices.IndexFunc(elsewhere.keys, func(k string) bool { return strings.EqualFold(k, key) })
		if i >= 0 && elsewhere.what != what {
			return fmt.Sprintf("%s belongs into %s%s", elsewhere.keys[i], elsewhere.what, map[string]string{
				"a pool": ", beside selectors", "a selector": `: "selectors": {…}`,
			}[elsewhere.what])
		}
	}
	names := slices.Sorted(maps.Keys(known))
	lower := strings.ToLower(key)
	for _, name := range names {
		n := strings.ToLower(name)
		if len(lower) >= 3 && (strings.HasPrefix(n, lower) || strings.HasPrefix(lower, n)) {
			return fmt.Sprintf("did you mean %q?", name)
		}
	}
	return "want one of " + strings.Join(names, ", ")
}

func (d *decoder) flag(key string, to *bool) func(node) {
	return func(n node) {
		v, ok := n.value.(bool)
		if !ok {
			d.fail(n.offset, fmt.Errorf("%s is %s; want true or false", key, n.kind()))
		}
		*to = v
	}
}

func (d *decoder) text(key string, to *string) func(node) {
	return func(n node) {
		v, ok := n.value.(string)
		if !ok {
			d.fail(n.offset, fmt.Errorf(`%s is %s; want a string "…"`, key, n.kind()))
		}
		*to = v
	}
}

// word reads a string that must be one of a few.
func word[T ~string](d *decoder, key string, to *T, allowed ...T) func(node) {
	return func(n node) {
		v, ok := n.value.(string)
		if ok && slices.Contains(allowed, T(v)) {
			*to = T(v)
			return
		}
		words := make([]string, len(allowed))
		for i, a := range allowed {
			words[i] = string(a)
		}
		d.fail(n.offset, fmt.Errorf("%s is %s; want %s", key, n.kind(), strings.Join(words, ", ")))
	}
}

// readList reads a list of strings, each of which parse turns into a value.
func readList[T any](d *decoder, key string, to *[]T, parse func(string) (T, error)) func(node) {
	return func(n node) {
		if !n.isArray {
			d.fail(n.offset, fmt.Errorf(`%s is %s; want a list of strings ["…"]`, key, n.kind()))
			return
		}
		for _, item := range n.array {
			s, ok := item.value.(string)
			if !ok {
				d.fail(item.offset, fmt.Errorf(`%s has %s; want strings`, key, item.kind()))
				continue
			}
			v, err := parse(s)
			if err != nil {
				d.fail(item.offset, fmt.Errorf("%s: %w", key, err))
				continue
			}
			*to = append(*to, v)
		}
	}
}

// additionalInfo reads device -> key -> value.
func (d *decoder) additionalInfo(to *map[string]map[string]string) func(node) {
	return func(n node) {
		if !n.isObj {
			d.fail(n.offset, fmt.Errorf(`additionalInfo is %s; want an object {"*": {"key": "value"}}`, n.kind()))
			return
		}
		*to = map[string]map[string]string{}
		for _, m := range n.object {
			name, err := infoKey(m.key)
			if err != nil {
				d.fail(m.offset, err)
				continue
			}
			if (*to)[name] != nil {
				d.fail(m.offset, fmt.Errorf("additionalInfo has %s twice", name))
				continue
			}
			values := map[string]string{}
			(*to)[name] = values
			if !m.value.isObj {
				d.fail(m.value.offset, fmt.Errorf(`additionalInfo of %s is %s; want an object {"key": "value"}`, name, m.value.kind()))
				continue
			}
			for _, kv := range m.value.object {
				v, ok := kv.value.value.(string)
				if !ok {
					d.fail(kv.value.offset, fmt.Errorf("additionalInfo of %s: %q is %s; want a string", name, kv.key, kv.value.kind()))
				}
				values[kv.key] = v
			}
		}
	}
}
