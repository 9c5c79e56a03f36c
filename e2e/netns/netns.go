// SPDX-License-Identifier: Apache-2.0

// Package netns makes network namespaces for test environments: a loopback
// interface of their own, so that fixed ports never clash and no packet leaves
// the machine. It needs root (CAP_SYS_ADMIN).
package netns

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace that exists until it is closed and the last
// process in it has ended. It has no name in any file system.
type Namespace struct{ File *os.File }

// New returns a namespace in which nothing but loopback exists, and is up.
func New(ctx context.Context) (*Namespace, error) {
	n := &Namespace{}
	err := onThread(func() error {
		err := unshare()
		if err != nil {
			return err
		}
		n.File, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := n.IP(ctx, "link", "set", "lo", "up"); err != nil {
		n.File.Close()
		return nil, err
	}
	return n, nil
}

// Check is an error if this process may not make a namespace; it is asked before anything is
// built for one.
func Check() error { return onThread(unshare) }

func unshare() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("create network namespace: %w; it needs root, or in a container CAP_SYS_ADMIN", err)
	}
	return nil
}

// Close lets go of the namespace.
func (n *Namespace) Close() error { return n.File.Close() }

// Do runs f on a thread in the namespace. Sockets opened there stay there;
// goroutines started by f do not run there.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.File.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// DialContext connects from within the namespace; the address must be numeric.
// It fits http.Transport.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.Do(func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// IP runs ip(8) in the namespace.
func (n *Namespace) IP(ctx context.Context, args ...string) error {
	return n.Do(func() error {
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
		return nil
	})
}

// onThread runs f on a thread that f may take to another namespace. It comes back from there:
// the program's first thread would never end, and keep the namespace, and all of /proc/PID/net
// would be that namespace's. One that cannot come back is thrown away.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		err = f()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread() // else the runtime ends the thread
		}
		done <- err
	}()
	return <-done
}
