// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sriovkit/sriovkit/sriov-cni/internal/file"
	"golang.org/x/sys/unix"
)

// logFile is a log that many short-lived processes append to concurrently. The
// process that finds it full rotates it.
//
// The name comes from a network's configuration, which a tenant may have written.
// It can only lead to a regular file beneath the administrator's directory.
// Directories are not created and symbolic links not followed.
type logFile struct {
	dir  *os.File // the directory that holds the file
	name string
	full int64 // bytes
	open *os.File
}

const (
	logFull = 100 << 20 // bytes
	logKept = 5         // full files: name.1, the youngest, to name.5
)

// openLog opens a log at path, which is relative to dir or an absolute path in dir.
func openLog(dir, path string) (io.Writer, error) {
	name := filepath.Clean(path)
	if filepath.IsAbs(name) {
		rest, beneath := strings.CutPrefix(name, filepath.Clean(dir)+"/")
		if !beneath {
			return nil, fmt.Errorf("invalid logFile %.200q: want a file in %s", path, dir)
		}
		name = rest
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	top, err := file.Open(dir, unix.O_DIRECTORY|unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	l := &logFile{name: filepath.Base(name), full: logFull}
	if l.dir, err = openBeneath(top, filepath.Dir(name), unix.O_DIRECTORY|unix.O_PATH); err == nil {
		err = l.usable()
	}
	if err != nil {
		return nil, fmt.Errorf("invalid logFile %.200q: want a file in %s: %w", path, dir, err)
	}
	return l, nil
}

// openBeneath opens a file in dir or below it, whatever else name leads to
// (openat2(2), RESOLVE_BENEATH).
func openBeneath(dir *os.File, name string, flags uint64) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	if flags&unix.O_CREAT != 0 {
		how.Flags |= unix.O_NONBLOCK // opening a FIFO must not wait for a reader
		how.Mode = 0o600
	}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), name, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name)), nil
		case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN): // EAGAIN: something was renamed meanwhile
			return nil, &os.PathError{Op: "open", Path: filepath.Join(dir.Name(), name), Err: err}
		}
	}
}

// Write appends a line.
func (l *logFile) Write(line []byte) (int, error) { return l.open.Write(line) }

// usable opens the file, after rotating it if it is full. It is closed when the
// process exits.
func (l *logFile) usable() error {
	for {
		f, err := openBeneath(l.dir, l.name, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		switch {
		case err != nil:
		case !info.Mode().IsRegular():
			err = fmt.Errorf("%s is not a regular file", l.name)
		case info.Size() < l.full:
			l.open = f
			return nil
		default:
			err = l.rotate(f)
		}
		f.Close()
		if err != nil {
			return err
		}
	}
}

// rotate renames the full file f and its predecessors, unless another process has
// done so. Only the holder of the lock on the file that has the name may rename, so
// after taking the lock rotate checks that f still has it.
func (l *logFile) rotate(f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return os.NewSyscallError("flock", err)
	}
	var is, named unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &is); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	dir := int(l.dir.Fd())
	if unix.Fstatat(dir, l.name, &named, unix.AT_SYMLINK_NOFOLLOW) != nil || is.Ino != named.Ino || is.Dev != named.Dev {
		return nil
	}
	for i := logKept - 1; i > 0; i-- {
		_ = unix.Renameat(dir, l.kept(i), dir, l.kept(i+1)) // there may be none yet
	}
	return os.NewSyscallError("rename", unix.Renameat(dir, l.name, dir, l.kept(1)))
}

func (l *logFile) kept(i int) string { return fmt.Sprintf("%s.%d", l.name, i) }
