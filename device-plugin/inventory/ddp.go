// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"time"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/devlink"
)

// function is a PCI function under one driver. What is known of it is asked anew after
// another was bound.
type function struct {
	address libsriov.Address
	driver  string
}

type ddpAnswer struct {
	name string
	err  error
}

// ddp names the DDP package that a PF runs. Each is asked once: ddptool takes seconds where
// the hardware is slow. After a failure it is asked again at the next periodic look.
func (f *facts) ddp(ctx context.Context, pf libsriov.Function) (string, error) {
	if pf.Vendor != vendorIntel || pf.Driver == "" {
		return "", nil // nobody else has such packages
	}
	key := function{pf.Address, pf.Driver}
	a, known := f.ddpOf[key]
	if !known {
		a.name, a.err = f.askDDP(ctx, pf.Address)
		f.ddpOf[key] = a
	}
	return a.name, a.err
}

const vendorIntel = 0x8086

func (f *facts) forgetDDPFailures() {
	maps.DeleteFunc(f.ddpOf, func(_ function, a ddpAnswer) bool { return a.err != nil })
}

// askDDP: E810 tells through devlink; the older X710 only through Intel's ddptool, if that
// is installed.
func (f *facts) askDDP(ctx context.Context, pf libsriov.Address) (string, error) {
	if f.devlink != nil {
		versions, err := f.devlink.Versions(devlink.PCI(pf))
		if err != nil && !errors.Is(err, devlink.ErrNotSupported) {
			return "", err
		}
		if name := versions["fw.app.name"]; name != "" {
			return name, nil
		}
	}
	return ddptool(ctx, pf)
}

// ddptoolTime bounds a run of ddptool, which talks to the hardware.
const ddptoolTime = 5 * time.Second

// ddptool asks Intel's tool (https://github.com/intel/ddp-tool). "" if it is
// not installed or finds no package.
func ddptool(ctx context.Context, pf libsriov.Address) (string, error) {
	path, err := exec.LookPath("ddptool")
	if err != nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, ddptoolTime)
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
