// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sriovkit/sriovkit/sriov-cni/attach"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/delegate"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
	"golang.org/x/sys/unix"
)

// status returns an error if an ADD cannot succeed: the state directory is not
// writable, or the IPAM plugin is not installed or not ready.
func (c *call) status(ctx context.Context) error {
	notReady := func(err error, hint string) error {
		return cnierr.New(cnierr.NotAvailable, fmt.Errorf("not ready: %w", err), hint)
	}
	if c.nodeErr != nil {
		return notReady(c.nodeErr, nodeHint)
	}
	dir := c.StateDir
	for !state.Exists(dir) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	if err := unix.Access(dir+"/.", unix.W_OK); err != nil { // "/." fails for a file in its place
		return notReady(&os.PathError{Op: "write to", Path: dir, Err: err}, "state is kept in "+c.StateDir)
	}
	ipam := c.conf.IPAM.Type
	if ipam == "" {
		return nil
	}
	if err := c.namesFiles(ipam); err != nil {
		return notReady(err, "ADD refuses it too; name another file, or have the node's administrator allow it")
	}
	if _, err := delegate.Find(ipam); err != nil {
		return notReady(err, "install the IPAM plugin "+ipam)
	}
	if _, err := delegate.Run(ctx, ipam, "STATUS", c.StdinData); err != nil && !lacksCommand(err) {
		return attach.IPAMError("STATUS", ipam, err)
	}
	return nil
}
