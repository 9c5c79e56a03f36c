package plugin

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// open is os.OpenFile for files that never make a reader wait: state, sysfs,
// sysctls, namespaces. That one asks the poller of the Go runtime to watch each
// of them, which costs five system calls a file and a thread that waits.
func open(path string, flags int, perm uint32) (*os.File, error) {
	fd, err := openFD(path, flags, perm)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

func openFD(path string, flags int, perm uint32) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, perm)
		switch {
		case err == nil:
			return fd, nil
		case !errors.Is(err, unix.EINTR):
			return -1, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// readFile is os.ReadFile by way of open.
func readFile(path string) ([]byte, error) {
	f, err := open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// create writes a file that may be there already.
func create(path string, b []byte) error {
	f, err := open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}
