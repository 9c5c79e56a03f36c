// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"

	"github.com/sriovkit/sriovkit/libsriov/netns"
)

// Namespace is the network namespace of a control plane, in which nothing but loopback
// exists. It lives as long as the control plane.
type Namespace struct{ path string }

// Command prepares a program that runs in the namespace; of nil, in the caller's.
func (n *Namespace) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if n == nil {
		return exec.CommandContext(ctx, name, args...)
	}
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + n.path, "--", name}, args...)...) // replaces itself by the program
}

// DialContext connects from within the namespace; the address must be numeric. It fits
// rest.Config.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	file, err := os.Open(n.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	err = netns.Within(file, func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// IP runs ip(8) in the namespace.
func (n *Namespace) IP(ctx context.Context, args ...string) error {
	if out, err := n.Command(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}
