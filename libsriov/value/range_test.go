// SPDX-License-Identifier: Apache-2.0

package value_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/value"
)

func TestParseRange(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]value.Range{
		"0": {}, "7": {First: 7, Last: 7}, "0-3": {Last: 3}, "4-4": {First: 4, Last: 4}, "4294967295": {First: 1<<32 - 1, Last: 1<<32 - 1},
	} {
		got, err := value.ParseRange(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "-", "3-0", "x", "1-", "-1", "1-2-3", " 1", "1 ", "+1", "1-+2", "0x1", "4294967296", "1_0"} {
		_, err := value.ParseRange(text)
		assert.ErrorIs(t, err, value.ErrBadRange, "%q", text)
	}
}

func TestRangesOverlap(t *testing.T) {
	t.Parallel()
	a := value.Range{First: 2, Last: 4}
	assert.True(t, a.Contains(2))
	assert.True(t, a.Contains(4))
	assert.False(t, a.Contains(5))
	assert.True(t, a.Overlaps(value.Range{First: 4, Last: 9}))
	assert.False(t, a.Overlaps(value.Range{First: 5, Last: 9}))
}

// FuzzParseRange: a range is never empty, and prints as one that parses to the
// same.
func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"0", "0-3", "3-0", "-", "", "4294967295-4294967295"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := value.ParseRange(s)
		if err != nil {
			require.Equal(t, value.Range{}, r)
			return
		}
		require.True(t, r.Contains(r.First))
		again, err := value.ParseRange(r.String())
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}
