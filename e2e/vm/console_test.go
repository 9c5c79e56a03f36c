// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestConsole: kernel messages arrive in pieces; one that is the end of the node ends what waits.
func TestConsole(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	c, err := newConsole(filepath.Join(t.TempDir(), "console"), "node1", &said)
	require.NoError(t, err)
	defer c.file.Close()
	for _, piece := range []string{"[ 9.1] BUG: bad", " page\r\n[ 9.2] I/O err", "or, dev vda, sector 8 op 0x1:(WRITE)"} {
		_, err := c.Write([]byte(piece))
		require.NoError(t, err)
	}
	require.Equal(t, "node1: console: [ 9.1] BUG: bad page\nnode1: the kernel of the node has a bug or was given bad hardware\n", said.String())
	select {
	case <-c.fatal:
		t.Fatal("neither is fatal yet: the second is not a line")
	default:
	}
	_, err = c.Write([]byte("\r\n[ 9.3] I/O error, dev vda, sector 9\r\n"))
	require.NoError(t, err)
	<-c.fatal
	require.ErrorContains(t, c.err, "finds no room in the cache directory")
	require.ErrorContains(t, c.err, "sector 8")
}
