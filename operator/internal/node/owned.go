package node

import (
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

// Files keeps what has to survive the daemon, below the host's root.
type Files struct{ Root string }

const (
	ownedDir     = "etc/sriov-operator/pci"
	resourcesDir = "etc/sriov-operator/device-plugin"
	udevDir      = "etc/udev/rules.d"
)

// Owned reads which PFs were configured, by PCI address. Files whose name is no
// address are not ours. One that does not parse still proves ownership, with nothing
// known about what was applied; it is reported beside the good result.
func (f Files) Owned() (map[string]plan.Owned, error) {
	dir := filepath.Join(f.Root, ownedDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	out := make(map[string]plan.Owned, len(entries))
	var errs []error
	for _, e := range entries {
		addr, err := libsriov.ParseAddress(e.Name())
		if err != nil || addr.String() != e.Name() {
			continue
		}
		var o plan.Owned
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil {
			err = json.Unmarshal(b, &o)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read what was applied to %s: %w", addr, err))
			o = plan.Owned{}
		}
		o.PciAddress = addr.String()
		out[addr.String()] = o
	}
	return out, errors.Join(errs...)
}

// Own notes, before the first change, that a PF is ours, and keeps NetworkManager
// off its VFs, which would bring them up and configure them.
func (f Files) Own(pf libsriov.Address, o plan.Owned) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := f.write(filepath.Join(ownedDir, pf.String()), b, 0o600); err != nil {
		return err
	}
	// A VF's netdev has a link to its PF below its device; the rule compares what the
	// PF says about itself, for the addresses of the VFs are not known yet.
	rule := fmt.Sprintf("SUBSYSTEM==\"net\", ACTION==\"add|change|move\", ATTR{device/physfn/uevent}==\"*PCI_SLOT_NAME=%s*\", ENV{NM_UNMANAGED}=\"1\"\n", pf)
	return f.write(udevRule(pf), []byte(rule), 0o644)
}

// Disown forgets a PF.
func (f Files) Disown(pf libsriov.Address) error {
	var errs []error
	for _, p := range []string{udevRule(pf), filepath.Join(ownedDir, pf.String())} {
		if err := os.Remove(filepath.Join(f.Root, p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Offer writes the device plugin's configuration, if it changed. The plugin watches
// the directory and reloads.
func (f Files) Offer(r plan.Resources) (changed bool, err error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return false, err
	}
	name := filepath.Join(resourcesDir, "config.json")
	if old, err := os.ReadFile(filepath.Join(f.Root, name)); err == nil && string(old) == string(b) {
		return false, nil
	}
	return true, f.write(name, b, 0o644)
}

func udevRule(pf libsriov.Address) string {
	return filepath.Join(udevDir, "10-nm-disable-"+pf.String()+".rules")
}

func (f Files) write(name string, b []byte, mode os.FileMode) error {
	path := filepath.Join(f.Root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicwriter.WriteFile(path, b, mode)
}
