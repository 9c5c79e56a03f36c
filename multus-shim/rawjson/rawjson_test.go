// SPDX-License-Identifier: Apache-2.0

package rawjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEditsKeepEveryOtherByte(t *testing.T) {
	t.Parallel()
	const source = `{"zeta": 12345678901234567890, "a<b": "\u00e9é&", "deep": {"x": 1.10, "y": [ 1 ]}, "a": null}`
	object, err := Parse([]byte(source))
	require.NoError(t, err)

	for name, tc := range map[string]struct {
		got  Object
		want string
	}{
		"untouched": {object, `{"zeta":12345678901234567890,"a<b":"\u00e9é&","deep":{"x":1.10,"y":[1]},"a":null}`},
		"replaced":  {object.With("a<b", Marshal("<>")), `{"zeta":12345678901234567890,"a<b":"<>","deep":{"x":1.10,"y":[1]},"a":null}`},
		"appended":  {object.With("new", Marshal([]int{1})), `{"zeta":12345678901234567890,"a<b":"\u00e9é&","deep":{"x":1.10,"y":[1]},"a":null,"new":[1]}`},
		"merged": {
			object.Merge(Object{{"deep", json.RawMessage(`{"y":{},"z":2}`)}, {"a", json.RawMessage(`{}`)}}),
			`{"zeta":12345678901234567890,"a<b":"\u00e9é&","deep":{"x":1.10,"y":{},"z":2},"a":{}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tc.want, string(tc.got.Bytes()))
		})
	}
}

func TestRepeatedKey(t *testing.T) {
	t.Parallel()
	object, err := Parse([]byte(`{"a":1,"b":2,"a":3}`))
	require.NoError(t, err)
	value, ok := object.Get("a")
	require.True(t, ok)
	assert.Equal(t, "3", string(value), "the last one counts, as for encoding/json")
	assert.Equal(t, `{"a":4,"b":2}`, string(object.With("a", json.RawMessage("4")).Bytes()))
}

// Every spelling that encoding/json would take for the key is one of it.
func TestSpellings(t *testing.T) {
	t.Parallel()
	for _, spelling := range []string{"deviceID", "DEVICEID", "deviceid", "dEVICEiD", `device\u0049D`} {
		var reader struct{ DeviceID string }
		source := []byte(`{"deviceID":"ours","x":1,"` + spelling + `":"theirs"}`)
		require.NoError(t, json.Unmarshal(source, &reader))
		require.Equal(t, "theirs", reader.DeviceID)
		object, err := Parse(source)
		require.NoError(t, err)
		assert.Equal(t, `{"deviceID":"mine","x":1}`, string(object.With("deviceID", Marshal("mine")).Bytes()))
		assert.Equal(t, `{"x":1}`, string(object.Without("deviceID").Bytes()))
	}
	for _, spelling := range []string{"runtimeconfiG", "\u017fkip", "\u212aey"} { // long s and the Kelvin sign fold to s and k
		object := Object{{spelling, Marshal(1)}}
		plain := map[string]string{"runtimeconfiG": "runtimeConfig", "\u017fkip": "skip", "\u212aey": "key"}[spelling]
		assert.Empty(t, object.Without(plain), spelling)
	}
}

// Work is proportional to the input: a quarter of a megabyte takes milliseconds,
// nested, flat or escaped.
func TestWorkIsLinear(t *testing.T) {
	t.Parallel()
	const size = 256 << 10
	flat := func(prefix string, n int) []byte {
		var b strings.Builder
		b.WriteByte('{')
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `"%s%d":{"v":%d}`, prefix, i, i)
		}
		return []byte(b.String() + "}")
	}
	begun := cpu(t)
	for _, source := range []string{
		strings.Repeat(`{"a":`, size/5), strings.Repeat(`[`, size), `{"a":` + strings.Repeat(`[`, size/2) + strings.Repeat(`]`, size/2) + `}`,
		`{"` + strings.Repeat(`\"`, size/2) + `":1}`,
	} {
		_, _ = Parse([]byte(source))
	}
	below, err := Parse(flat("a", 30000))
	require.NoError(t, err)
	above, err := Parse(flat("b", 15000))
	require.NoError(t, err)
	assert.Len(t, below.Merge(above), 45000)
	assert.Len(t, below.Merge(below), 30000)
	// As deep as Parse lets through, with all the weight at the bottom.
	deep := strings.Repeat(`{"a":`, MaxDepth-2) + string(flat("k", size/16)) + strings.Repeat(`}`, MaxDepth-2)
	nested, err := Parse([]byte(deep))
	require.NoError(t, err)
	assert.Equal(t, deep, string(nested.Merge(nested).Bytes()))
	assert.Less(t, cpu(t)-begun, 2*time.Second, "quadratic work takes a hundred times as long")
}

// cpu is what this thread has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	var usage syscall.Rusage
	require.NoError(t, syscall.Getrusage(1, &usage)) // RUSAGE_THREAD
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, source := range []string{``, `null`, `[]`, `"x"`, `{`, `{"a"}`, `{"a":1}{}`, `{"a":}`} {
		_, err := Parse([]byte(source))
		assert.Error(t, err, source)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1}`, `{"a":{"a":[{}]}}`, `{"\u0061":"\ud800"}`, `[`, `{"a":1,"a":2}`, `{"a":1,"A":2}`, `{"a":44E444441}`} {
		f.Add([]byte(seed))
	}
	decode := func(t *testing.T, data []byte) (out any) {
		t.Helper()
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber() // some are beyond float64
		require.NoError(t, d.Decode(&out))
		return out
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		object, err := Parse(data)
		if err != nil {
			require.Nil(t, object)
			return
		}
		again, err := Parse(object.Bytes())
		require.NoError(t, err)
		require.Equal(t, object, again)
		require.Equal(t, decode(t, data), decode(t, object.Bytes()))
	})
}

// Keys are quoted as encoding/json does it.
func TestBytesQuotesKeys(t *testing.T) {
	t.Parallel()
	for r := rune(0); r < 0x2100; r++ {
		key := "a" + string(r) + "b"
		want, err := json.Marshal(key)
		require.NoError(t, err)
		got := Object{{key, json.RawMessage("1")}}.Bytes()
		if strings.ContainsRune("<>&", r) { // not for HTML
			want = []byte(`"` + key + `"`)
		}
		require.Equal(t, `{`+string(want)+`:1}`, string(got))
	}
	require.Equal(t, `{"a\ufffdb":1}`, string(Object{{"a\xffb", json.RawMessage("1")}}.Bytes()), "no UTF-8")
}
