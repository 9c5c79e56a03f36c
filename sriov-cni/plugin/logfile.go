package plugin

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// logFile is a log that many short processes write to, at times several at
// once. The one that finds it full renames it; there is no goroutine that would
// have to outlive the process for that.
type logFile struct {
	path string
	full int64 // bytes
	open *os.File
}

const (
	logFull = 100 << 20 // bytes
	logKept = 5         // full files: path.1, the youngest, to path.5
)

// Write appends a line. The file is made with the first, and is closed by the
// end of the process.
func (l *logFile) Write(line []byte) (n int, err error) {
	for l.open == nil {
		if l.open, err = l.usable(); err != nil {
			return 0, err
		}
	}
	return l.open.Write(line)
}

// usable opens the file; nil if that was full and has been renamed.
func (l *logFile) usable() (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || info.Size() < l.full || !info.Mode().IsRegular() {
		return f, err
	}
	defer f.Close()
	// Who holds the lock of the very file that path leads to is alone in renaming it.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, os.NewSyscallError("flock", err)
	}
	if !sameFile(f, l.path) {
		return nil, nil
	}
	for i := logKept - 1; i > 0; i-- {
		_ = os.Rename(l.kept(i), l.kept(i+1)) // there may be none yet
	}
	return nil, os.Rename(l.path, l.kept(1))
}

func (l *logFile) kept(i int) string { return fmt.Sprintf("%s.%d", l.path, i) }
