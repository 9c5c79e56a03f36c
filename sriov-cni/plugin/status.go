package plugin

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"golang.org/x/sys/unix"
)

// status tells whether an ADD could work: whether state can be kept, and
// whether the IPAM plugin is there and ready.
func (p *Plugin) status(ctx context.Context, args *skel.CmdArgs, c conf) error {
	notReady := func(err error, hint string) error {
		return &failure{Code: codeNotAvailable, Err: fmt.Errorf("not ready: %w", err), Hint: hint}
	}
	dir := p.StateDir
	for !exists(dir) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return notReady(&os.PathError{Op: "write to", Path: dir, Err: err}, "state is kept in "+p.StateDir)
	}
	if c.IPAM.Type == "" {
		return nil
	}
	if _, err := invoke.FindInPath(c.IPAM.Type, filepath.SplitList(os.Getenv("CNI_PATH"))); err != nil {
		return notReady(err, "install the IPAM plugin "+c.IPAM.Type)
	}
	if err := invoke.DelegateStatus(ctx, c.IPAM.Type, args.StdinData, nil); err != nil && !lacksCommand(err) {
		return ipamError("STATUS", c.IPAM.Type, err)
	}
	return nil
}
