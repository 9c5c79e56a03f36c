// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/atomicwriter"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// Files reads and writes the daemon's files on the host.
type Files struct {
	Root string // of the host's file system
	// Directories below Root, with their defaults for "". Hosts with a read-only /etc need
	// others.
	StateDir    string // /etc/sriov-operator
	UdevDir     string // /etc/udev/rules.d
	ModprobeDir string // /etc/modprobe.d
}

func (f Files) stateDir() string    { return cmp.Or(f.StateDir, "/etc/sriov-operator") }
func (f Files) udevDir() string     { return cmp.Or(f.UdevDir, "/etc/udev/rules.d") }
func (f Files) modprobeDir() string { return cmp.Or(f.ModprobeDir, "/etc/modprobe.d") }

func (f Files) ownedDir() string     { return filepath.Join(f.stateDir(), "pci") }
func (f Files) resourcesDir() string { return filepath.Join(f.stateDir(), "device-plugin") }

// runDir is for state that a reboot voids; /run is emptied by it.
const runDir = "run/sriov-operator"

// Owned reads the records of what was applied to PFs, by PCI address. A record that cannot be
// read still proves that something was applied: see plan.Owned.Unreadable. Files whose name is
// not an address are ignored.
func (f Files) Owned() (map[string]plan.Owned, error) {
	dir := filepath.Join(f.Root, f.ownedDir())
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read what was applied: %w", err)
	}
	out := make(map[string]plan.Owned, len(entries))
	for _, e := range entries {
		addr, err := libsriov.ParseAddress(e.Name())
		if err != nil || addr.String() != e.Name() {
			continue
		}
		o, err := readOwned(filepath.Join(dir, e.Name()), e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		} else if err != nil {
			o = plan.Owned{Unreadable: fmt.Errorf("read %s: %w", filepath.Join(f.ownedDir(), e.Name()), err)}
			o.PciAddress = e.Name()
		}
		out[e.Name()] = o
	}
	return out, nil
}

// readOwned reads a record. Upstream's operator may have written it.
func readOwned(path, address string) (plan.Owned, error) {
	var o plan.Owned
	b, err := os.ReadFile(path)
	if err != nil {
		return o, err
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return o, err
	}
	switch {
	case o.PciAddress != address:
		return o, fmt.Errorf("it is about PF %q", o.PciAddress)
	case o.NumVfs <= 0 || len(o.VfGroups) == 0:
		return o, errors.New("it tells of no VFs")
	}
	for _, g := range o.VfGroups {
		if _, err := plan.ParseRange(g.VfRange); err != nil {
			return o, err
		}
	}
	return o, nil
}

// Own records what is about to be applied to a PF and writes its udev rules, which keep
// NetworkManager from configuring the VFs. The record comes last: rules that could not be
// written are tried again, for a PF with an up-to-date record is not recorded anew.
func (f Files) Own(ctx context.Context, pf libsriov.Address, o plan.Owned) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := f.writeRules(ctx, pf, udevRules(pf, o)); err != nil {
		return fmt.Errorf("rules of udev, which keep others off its VFs: %w", err)
	}
	return f.write(filepath.Join(f.ownedDir(), pf.String()), b, 0o600)
}

// Disown removes the udev rules and the record of a PF.
func (f Files) Disown(ctx context.Context, pf libsriov.Address) error {
	err := f.writeRules(ctx, pf, nil)
	if removeErr := os.Remove(filepath.Join(f.Root, f.ownedDir(), pf.String())); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	return err
}

// Offer writes the device plugin's configuration, if it has changed. The device plugin
// watches the directory and reloads the file.
func (f Files) Offer(r plan.Resources) (changed bool, err error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return false, err
	}
	name := filepath.Join(f.resourcesDir(), "config.json")
	if old, err := os.ReadFile(filepath.Join(f.Root, name)); err == nil && string(old) == string(b) {
		return false, nil
	}
	return true, f.write(name, b, 0o644)
}

func (f Files) write(name string, b []byte, mode os.FileMode) error {
	path := filepath.Join(f.Root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicwriter.WriteFile(path, b, mode)
}

// checkWritable returns an error if one of the directories that the daemon writes to is not
// writable.
func (f Files) checkWritable() error {
	for _, name := range []string{f.ownedDir(), f.udevDir(), runDir} {
		dir := filepath.Join(f.Root, name)
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			var probe *os.File
			if probe, err = os.CreateTemp(dir, ".writable-"); err == nil {
				err = errors.Join(probe.Close(), os.Remove(probe.Name()))
			}
		}
		if err != nil {
			return fmt.Errorf("%s is not writable: %w", filepath.Join("/", name), err)
		}
	}
	return nil
}
