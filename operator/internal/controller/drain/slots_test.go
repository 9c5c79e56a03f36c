// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSlots(t *testing.T) {
	t.Parallel()
	var s slots
	take := func(node, pool string, room, used int, ok bool) {
		t.Helper()
		n, got := s.take(node, pool, room)
		require.Equal(t, ok, got)
		require.Equal(t, used, n)
	}
	require.Empty(t, s.free("a"), "never held one")
	take("a", "p", 2, 1, true)
	take("a", "p", 2, 1, true) // asks again: the same slot
	take("b", "p", 2, 2, true)
	take("b", "p", 1, 2, true) // keeps it, though there is less room now
	take("c", "p", 2, 2, false)
	take("d", "", 1, 1, true)
	take("e", "", 1, 1, false)
	take("f", "p", 0, 2, false)
	require.Equal(t, []string{"e"}, s.free("d"), "of its own pool only")
	require.Empty(t, s.free("d"), "once")

	s.hold("x", "p") // from before a restart: more than there is room for
	require.Empty(t, s.free("f"), "waited, held nothing")
	require.Equal(t, []string{"c"}, s.free("a"))
	take("c", "p", 2, 2, false)
	require.Equal(t, []string{"c"}, s.free("b"))
	take("c", "p", 2, 2, true)
	require.Empty(t, s.free("c"), "nobody waits any more")

	s.hold("y", "p")
	take("w", "p", 2, 2, false)
	require.Equal(t, []string{"w"}, s.hold("y", "q"), "its labels have changed: there is room in the pool that it left")
	require.Empty(t, s.hold("y", "q"), "once")
	require.Equal(t, []string{"w"}, s.move("x", "r"), "its pool has changed")
	require.Empty(t, s.move("x", "r"))
	require.Empty(t, s.move("w", "q"), "holds none")
	s.forget("w")
	require.Empty(t, s.move("x", "p"), "nobody waits in r")
	take("z", "p", 2, 2, true)
	require.Empty(t, s.free("z"), "w waits no more")
	for _, n := range []string{"1", "2", "3", "4"} {
		take(n, "q", 1, 1, false)
	}
	require.Len(t, s.free("y"), wakeAtOnce)
}
