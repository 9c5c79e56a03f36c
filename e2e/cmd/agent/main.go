// SPDX-License-Identifier: Apache-2.0

// The agent is the first program of an emulated node and the only one the
// harness talks to. Started by the kernel from the initramfs it mounts the root
// disk, prepares it, and then serves SSH on a virtio serial port: commands,
// pseudo-terminals and signals over one stream, without a network.
//
// The other end of the port is a socket pair held by the process that booted
// the node, which is why no key is checked.
package main

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "agent: runs as process 1 of an emulated node, see e2e/vm")
		os.Exit(2)
	}
	err := boot()
	if err == nil {
		err = supervise()
	}
	fmt.Fprintln(os.Stderr, "agent:", err) // the harness reads this on the console
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) //nolint:errcheck // nobody is left to tell
}

// supervise runs the server as a child and, as process 1 must, reaps whatever
// else ends. It returns when the server has ended, and says how.
func supervise() error {
	server := exec.Command("/proc/self/exe", "serve")
	server.Stdout, server.Stderr = os.Stdout, os.Stderr
	if err := server.Start(); err != nil {
		return err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("wait for children: %w", err)
		case pid == server.Process.Pid:
			return fmt.Errorf("server ended: status %#x", int(status))
		}
	}
}
