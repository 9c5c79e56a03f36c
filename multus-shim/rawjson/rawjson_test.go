package rawjson

import (
	"encoding/json"
	"testing"

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

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, source := range []string{``, `null`, `[]`, `"x"`, `{`, `{"a"}`, `{"a":1}{}`, `{"a":}`} {
		_, err := Parse([]byte(source))
		assert.Error(t, err, source)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1}`, `{"a":{"a":[{}]}}`, `{"\u0061":"\ud800"}`, `[`, `{"a":1,"a":2}`} {
		f.Add([]byte(seed))
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
		var want, got any
		require.NoError(t, json.Unmarshal(data, &want))
		require.NoError(t, json.Unmarshal(object.Bytes(), &got))
		require.Equal(t, want, got)
	})
}
