// SPDX-License-Identifier: Apache-2.0

package support

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// A log of any length costs its end alone, which says what is missing; no line is cut in two.
func TestLogEnd(t *testing.T) {
	t.Parallel()
	const says = "bytes of this log are left out: a bundle has the last 20]\n"
	for name, tc := range map[string]struct{ log, want string }{
		"empty":              {"", ""},
		"short":              {"one\ntwo\n", "one\ntwo\n"},
		"as long as allowed": {"0123456789\n01234567\n", "0123456789\n01234567\n"},
		"too long":           {"first\npassword=hunter2\nlast line\n", "[the first 23 " + says + "last line\n"},
		"no end of a line":   {"first\nsecond\nthird and last", "[the first 13 " + says + "third and last"},
		"one long line":      {strings.Repeat("x", 100), "[the first 100 " + says},
		"many times over":    {strings.Repeat("x", 100) + "\nlast\n", "[the first 101 " + says + "last\n"},
	} {
		got, err := logEnd(iotest.OneByteReader(strings.NewReader(tc.log)), 20)
		require.NoError(t, err, name)
		require.Equal(t, tc.want, string(got), name)
		got, err = logEnd(strings.NewReader(tc.log), 20)
		require.NoError(t, err, name)
		require.Equal(t, tc.want, string(got), name)
	}
	_, err := logEnd(iotest.ErrReader(errors.New("gone")), 20)
	require.ErrorContains(t, err, "gone")
	text, err := LogEnd(strings.NewReader(strings.Repeat("0123456789abcde\n", 1<<20)))
	require.NoError(t, err)
	require.Less(t, len(text), logLimit+100)
	require.Greater(t, len(text), logLimit-100)
}
