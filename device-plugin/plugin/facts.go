package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/devlink"
	"github.com/sriovkit/sriovkit/libsriov/link"
)

// facts reads the host: sysfs, and unless the tree is a captured one rtnetlink
// and devlink.
type facts struct {
	host    *libsriov.Host
	links   *link.Conn    // nil for a captured tree
	devlink *devlink.Conn // nil if the kernel has none
	log     *slog.Logger
}

func openFacts(opts Options, log *slog.Logger) (*facts, error) {
	host, err := libsriov.Open(opts.SysfsRoot)
	if err != nil {
		return nil, err
	}
	f := &facts{host: host, log: log}
	if opts.Captured {
		return f, nil
	}
	if f.links, err = link.Open(nil); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *facts) close() {
	if f.links != nil {
		_ = f.links.Close()
	}
	if f.devlink != nil {
		_ = f.devlink.Close()
	}
}

// errBlind: nothing can be said about the devices at this moment.
var errBlind = errors.New("devices stay as they are")

// read lists the devices. The list is good in spite of an error, unless that
// wraps errBlind.
func (f *facts) read(needs pool.Needs) ([]pool.Device, error) {
	src := pool.Source{Host: f.host}
	var network error
	if f.links != nil {
		if src.Network, network = pool.ReadNetwork(f.links); network != nil {
			// Without the routes nobody can tell which device must stay.
			return nil, fmt.Errorf("%w: default routes are unknown: %w", errBlind, network)
		}
		if needs.DDP || needs.RDMA {
			f.openDevlink()
		}
		src.DDP, src.EnableRDMA = f.ddp, f.enableRDMA
	}
	return pool.Read(src, needs)
}

// openDevlink connects once. Its absence only costs the facts that nothing else
// tells.
func (f *facts) openDevlink() {
	if f.devlink != nil {
		return
	}
	c, err := devlink.Open()
	if err != nil {
		f.log.Debug("no devlink", "err", err)
		return
	}
	f.devlink = c
}

// enableRDMA tells whether a function is set up for RDMA.
func (f *facts) enableRDMA(a libsriov.Address) (bool, error) {
	if f.devlink == nil {
		return false, nil
	}
	on, err := f.devlink.BoolParam(devlink.PCI(a), "enable_rdma")
	if errors.Is(err, devlink.ErrNotSupported) {
		return false, nil
	}
	return on, err
}

// ddp names the DDP package that a PF runs: E810 tells through devlink; the
// older X710 only through Intel's ddptool, if that is installed.
func (f *facts) ddp(pf libsriov.Address) (string, error) {
	if f.devlink != nil {
		versions, err := f.devlink.Versions(devlink.PCI(pf))
		if err != nil && !errors.Is(err, devlink.ErrNotSupported) {
			return "", err
		}
		if name := versions["fw.app.name"]; name != "" {
			return name, nil
		}
	}
	return ddptool(pf)
}

// ddptoolTime bounds a run of ddptool, which talks to the hardware.
const ddptoolTime = 5 * time.Second

// ddptool asks Intel's tool (https://github.com/intel/ddp-tool). "" if it is
// not installed or finds no package.
func ddptool(pf libsriov.Address) (string, error) {
	path, err := exec.LookPath("ddptool")
	if err != nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), ddptoolTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "-l", "-a", "-j", "-s", pf.String()).Output()
	const noPackage = 8 // exit status
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == noPackage {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ddptool of %s: %w", pf, err)
	}
	return parseDDPTool(out)
}

func parseDDPTool(out []byte) (string, error) {
	var doc struct {
		DDPInventory struct {
			DDPpackage struct {
				Name string `json:"name"`
			} `json:"DDPpackage"`
		} `json:"DDPInventory"`
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return "", fmt.Errorf("output of ddptool: %w", err)
	}
	return doc.DDPInventory.DDPpackage.Name, nil
}
