// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// node is a JSON value that knows where it stands, so that an error about what
// it means can say so. The standard library forgets positions once it has
// decoded.
type node struct {
	offset  int
	value   any // string, json.Number, bool or nil; unused for the two below
	object  []member
	array   []node
	isArray bool
	isObj   bool
}

type member struct {
	key    string
	offset int
	value  node
}

// isNull reports whether the value is null, which means the same as no key at all.
func (n node) isNull() bool { return !n.isObj && !n.isArray && n.value == nil }

// saysNothing reports whether the value is what a program renders for a field that was not
// set.
func (n node) saysNothing() bool {
	return n.isNull() || n.value == false || n.value == "" || n.isArray && len(n.array) == 0 || n.isObj && len(n.object) == 0
}

// kind names the type of the value for an error.
func (n node) kind() string {
	switch {
	case n.isObj:
		return "an object"
	case n.isArray:
		return "a list"
	}
	switch v := n.value.(type) {
	case string:
		return fmt.Sprintf("the string %.40q", v)
	case json.Number:
		return "the number " + v.String()
	case bool:
		return fmt.Sprint(v)
	}
	return "null"
}

// parseJSON reads one JSON document. The error is a *PositionError.
func parseJSON(data []byte) (node, error) {
	// The token reader below accepts some documents that are not JSON.
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		offset := len(data)
		if syntax := new(json.SyntaxError); errors.As(err, &syntax) {
			offset = max(0, int(syntax.Offset)-1)
		}
		for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
			if bytes.HasPrefix(data, []byte(mark)) {
				err = errors.New("it begins with a byte order mark; save it as UTF-8 without one")
			}
		}
		return node{}, &PositionError{Position: position(data, offset), Err: fmt.Errorf("not JSON: %w", err)}
	}
	p := &jsonParser{data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	p.dec.UseNumber()
	n, err := p.next()
	if err != nil {
		return node{}, &PositionError{Position: position(data, int(p.dec.InputOffset())), Err: err}
	}
	return n, nil
}

type jsonParser struct {
	data []byte
	dec  *json.Decoder
}

// start is where the next token begins: behind blanks and separators.
func (p *jsonParser) start() int {
	at := int(p.dec.InputOffset())
	for at < len(p.data) && strings.IndexByte(" \t\r\n,:", p.data[at]) >= 0 {
		at++
	}
	return at
}

func (p *jsonParser) next() (node, error) {
	n := node{offset: p.start()}
	token, err := p.dec.Token()
	if err != nil {
		return node{}, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		n.value = token
		return n, nil
	}
	n.isObj, n.isArray = delim == '{', delim == '['
	for p.dec.More() {
		m := member{offset: p.start()}
		if n.isObj {
			key, err := p.dec.Token()
			if err != nil {
				return node{}, err
			}
			m.key, _ = key.(string) // a JSON object has no other keys
		}
		if m.value, err = p.next(); err != nil {
			return node{}, err
		}
		if n.isObj {
			n.object = append(n.object, m)
		} else {
			n.array = append(n.array, m.value)
		}
	}
	_, err = p.dec.Token() // the closing delimiter
	return n, err
}

// Position is a place in a file, both counted from 1; columns are bytes.
type Position struct {
	Line, Column int
}

func (p Position) String() string { return fmt.Sprintf("%d:%d", p.Line, p.Column) }

func position(data []byte, offset int) Position {
	before := data[:min(offset, len(data))]
	return Position{
		Line:   1 + bytes.Count(before, []byte("\n")),
		Column: len(before) - bytes.LastIndexByte(before, '\n'),
	}
}

// PositionError is something wrong at one place of a configuration.
type PositionError struct {
	Position
	Pool string // resource name of the pool it is in; "" outside of any
	Err  error
}

func (e *PositionError) Error() string {
	if e.Pool == "" {
		return fmt.Sprintf("%s: %v", e.Position, e.Err)
	}
	name := e.Pool
	if !resourceName.MatchString(name) {
		name = fmt.Sprintf("%.80q", name)
	}
	return fmt.Sprintf("%s: pool %s: %v", e.Position, name, e.Err)
}

func (e *PositionError) Unwrap() error { return e.Err }
