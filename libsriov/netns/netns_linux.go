// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Within runs call on a thread that is in the namespace that ns is open on; in
// the caller's own if ns is nil. What call opens there, sockets above all, stays
// in that namespace. A thread that cannot return is thrown away.
func Within(ns *os.File, call func() error) error {
	if ns == nil {
		return call()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			result <- err
			return
		}
		defer unix.Close(home)
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread() // nothing has changed
			result <- fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
			return
		}
		err = call()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread() // else the runtime ends the thread
		}
		result <- err
	}()
	return <-result
}

// open opens a file that nothing waits for: os.Open would have the runtime's poller try to
// watch it.
func open(path string) (fd int, err error) {
	for {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, os.NewSyscallError("open "+path, err)
		}
	}
}
