// SPDX-License-Identifier: Apache-2.0

package value_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/value"
)

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]value.Address{
		"0000:3b:02.1":     {Bus: 0x3b, Device: 2, Function: 1},
		"0000:3B:1F.7":     {Bus: 0x3b, Device: 0x1f, Function: 7},
		"3b:02.1":          {Bus: 0x3b, Device: 2, Function: 1},
		"ffff:ff:1f.7":     {Domain: 0xffff, Bus: 0xff, Device: 0x1f, Function: 7},
		"10000:e1:00.0":    {Domain: 0x10000, Bus: 0xe1},
		"ffffffff:00:00.0": {Domain: 0xffffffff},
	} {
		got, err := value.ParseAddress(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
}

func TestParseAddressRefusesTheImpossible(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "0000", "0000:3b:02", "0000:3b:02.8", "0000:3b:20.0", "0000:3b:02.1 ", " 0000:3b:02.1", "0000:3b:02.1\n",
		"000:3b:02.1", "0000:3b:2.1", "0000:3b:02.10", "0000:03b:02.1", "g000:3b:02.1", "0x00:3b:02.1", "00000:3b:02.1",
		"+000:3b:02.1", "0_00:3b:02.1", "../../../etc", "0000:3b:02.1/..", "100000000:00:00.0", "a:b:c:d.e", "0000:3b:02.1.0",
	} {
		_, err := value.ParseAddress(text)
		assert.ErrorIs(t, err, value.ErrBadAddress, "%q", text)
	}
}

func TestAddressOrder(t *testing.T) {
	t.Parallel()
	a := mustAddress(t, "0000:01:10.7")
	assert.Negative(t, a.Compare(mustAddress(t, "0000:01:11.0")))
	assert.Positive(t, mustAddress(t, "0001:00:00.0").Compare(a))
	assert.Zero(t, a.Compare(mustAddress(t, "01:10.7")))
}

// FuzzParseAddress: a text that parses prints as one that parses to the same,
// and is safe as a path element.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"0000:3b:02.1", "3b:02.1", "10000:e1:00.0", "0000:3b:1F.7", "../..", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := value.ParseAddress(s)
		if err != nil {
			require.Equal(t, value.Address{}, a)
			return
		}
		require.NotContains(t, a.String(), "/")
		again, err := value.ParseAddress(a.String())
		require.NoError(t, err)
		require.Equal(t, a, again)
	})
}

func mustAddress(t *testing.T, s string) value.Address {
	t.Helper()
	a, err := value.ParseAddress(s)
	require.NoError(t, err)
	return a
}
