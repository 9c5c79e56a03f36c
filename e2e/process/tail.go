// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"strings"
)

const (
	tailLines = 25
	tailBytes = 16 << 10
)

// Tail returns the last lines of a log with its path, ready to be put into an
// error message.
func Tail(path string) string {
	text, err := lastBytes(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	return fmt.Sprintf("end of %s:\n\t%s", path, strings.Join(lines, "\n\t"))
}

func lastBytes(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	buf := make([]byte, min(info.Size(), tailBytes))
	n, err := f.ReadAt(buf, info.Size()-int64(len(buf)))
	if n < len(buf) && err != nil {
		return "", err
	}
	return string(buf), nil
}
