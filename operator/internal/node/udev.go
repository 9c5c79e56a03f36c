// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/libsriov"
	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// udevLimit bounds the wait for udevd to reload its rules.
const udevLimit = 5 * time.Second

// udevRules returns the rules for a PF by the prefix of their file's name. Files and
// interfaces have the names that upstream's operator gives them.
func udevRules(pf libsriov.Address, o plan.Owned) map[string]string {
	// The rule matches VFs by their PF, through the link physfn of their device: their own
	// addresses are not known before they are created.
	rules := map[string]string{ruleNM: fmt.Sprintf(
		"SUBSYSTEM==\"net\", ACTION==\"add|change|move\", ATTR{device/physfn/uevent}==\"*PCI_SLOT_NAME=%s*\", ENV{NM_UNMANAGED}=\"1\"\n", pf)}
	name := o.Name
	if o.EswitchMode != v1.EswitchSwitchdev || name == "" || strings.ContainsAny(name, "\"\\$%\n") {
		return rules
	}
	// In switchdev mode drivers give the PF a port name as well, from which the host's rules
	// would derive another interface name.
	rules[rulePF] = fmt.Sprintf("SUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", KERNELS==\"%s\", ATTR{phys_port_name}==\"p[0-9]*\", NAME=\"%s\"\n", pf, name)
	var ports strings.Builder
	for vf := range o.NumVfs {
		fmt.Fprintf(&ports, "SUBSYSTEM==\"net\", ACTION==\"add|move\", KERNELS==\"%s\", ATTR{phys_port_name}==\"*pf*vf%d\", NAME=\"%s_%d\"\n", pf, vf, name, vf)
	}
	rules[rulePorts] = ports.String()
	return rules
}

// Prefixes of the names of rules files.
const (
	ruleNM    = "10-nm-disable-"
	rulePF    = "10-pf-name-"
	rulePorts = "20-switchdev-"
)

var allRules = []string{ruleNM, rulePF, rulePorts}

func (f Files) udevRule(kind string, pf libsriov.Address) string {
	return filepath.Join(f.udevDir(), kind+pf.String()+".rules")
}

// writeRules writes the udev rules of a PF, removes those not in want, and waits until udevd
// has reloaded them, so that they apply to the VFs that are created next. Without udevd it
// only writes the files.
func (f Files) writeRules(ctx context.Context, pf libsriov.Address, want map[string]string) error {
	changed := false
	for _, kind := range allRules {
		name, rule := f.udevRule(kind, pf), want[kind]
		old, err := os.ReadFile(filepath.Join(f.Root, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		switch {
		case rule == string(old):
			continue
		case rule == "":
			err = os.Remove(filepath.Join(f.Root, name))
		default:
			err = f.write(name, []byte(rule), 0o644)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return reloadUdev(ctx, filepath.Join(f.Root, "run/udev"))
}

// reloadUdev makes udevd reload its rules, as "udevadm control --reload" does. Without that
// udevd checks for changed rules at most every three seconds, which is too late for VFs that
// are created now. It is asked through its control socket, or through Varlink since systemd
// 258.
func reloadUdev(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, udevLimit)
	defer cancel()
	err := reloadByControl(ctx, filepath.Join(dir, "control"))
	if err == nil {
		return nil
	}
	varlinkErr := reloadByVarlink(ctx, filepath.Join(dir, "io.systemd.Udev"))
	if varlinkErr == nil || errors.Is(err, fs.ErrNotExist) && errors.Is(varlinkErr, fs.ErrNotExist) {
		return nil // done, or there is no udevd
	}
	return fmt.Errorf("have udevd read its rules: %w", errors.Join(err, varlinkErr))
}

// The message of udevd's control socket (systemd/src/udev/udev-ctrl.c).
const (
	udevMagic    = 0xdead1dea
	udevEnd      = 0
	udevReload   = 4
	udevWireSize = 16 + 4 + 4 + 256 // version, magic, type, value
)

func udevMessage(kind uint32) []byte {
	b := make([]byte, udevWireSize)
	copy(b, "udev-252")
	binary.NativeEndian.PutUint32(b[16:], udevMagic)
	binary.NativeEndian.PutUint32(b[20:], kind)
	return b
}

// reloadByControl returns once udevd has closed the connection, which it does after it has
// handled the message.
func reloadByControl(ctx context.Context, socket string) error {
	c, err := dial(ctx, "unixpacket", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, kind := range []uint32{udevReload, udevEnd} {
		if _, err := c.Write(udevMessage(kind)); err != nil {
			return err
		}
	}
	if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func reloadByVarlink(ctx context.Context, socket string) error {
	c, err := dial(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(append([]byte(`{"method":"io.systemd.service.Reload"}`), 0)); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, err := c.Read(answer)
	if err != nil {
		return err
	}
	if text := string(answer[:n]); strings.Contains(text, `"error"`) {
		return fmt.Errorf("udevd: %s", strings.TrimRight(text, "\x00"))
	}
	return nil
}

func dial(ctx context.Context, network, socket string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, socket)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}
