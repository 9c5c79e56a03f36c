// SPDX-License-Identifier: Apache-2.0

package support

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// logLimit bounds what a bundle has of one log, bytes. What happened last is at its end.
const logLimit = 5 << 20

// LogEnd reads a log and keeps the lines at its end, with a first line that says so where it
// has left some out. A line is kept whole or not at all: the name of a secret may be what is cut
// off before its value.
func LogEnd(r io.Reader) ([]byte, error) { return logEnd(r, logLimit) }

func logEnd(r io.Reader, limit int) ([]byte, error) {
	var kept []byte // less than twice the limit
	var dropped int64
	part := make([]byte, 64<<10)
	cut := func() {
		if over := len(kept) - limit; over > 0 {
			dropped += int64(over)
			kept = append(kept[:0], kept[over:]...)
		}
	}
	for {
		n, err := r.Read(part)
		if kept = append(kept, part[:n]...); len(kept) >= 2*limit {
			cut()
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	cut()
	if dropped == 0 {
		return kept, nil
	}
	line := bytes.IndexByte(kept, '\n') + 1
	if line == 0 { // one line of this length
		line = len(kept)
	}
	return append(fmt.Appendf(nil, "[the first %d bytes of this log are left out: a bundle has the last %d]\n", dropped+int64(line), limit), kept[line:]...), nil
}
