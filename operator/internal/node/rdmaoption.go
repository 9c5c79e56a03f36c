// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// rdmaOptionFile, in modprobe's directory, has the name that upstream's operator gives it. It
// sets the mode of later boots if ib_core is a module that is loaded from the root file system.
// Where ib_core is built in or in an initramfs it has no effect: the boot configuration is not
// edited.
const rdmaOptionFile = "sriov_network_operator_modules_config.conf"

// rdmaOption is ib_core's parameter for a mode (linux/drivers/infiniband/core/device.c).
func rdmaOption(mode string) string {
	return fmt.Sprintf("netns_mode=%d", map[string]int{"exclusive": 0, "shared": 1}[mode])
}

// RdmaOption returns the mode that the file asks for; "" without a file, "unknown" if it has
// other content.
func (f Files) RdmaOption() (mode string, err error) {
	b, err := os.ReadFile(filepath.Join(f.Root, f.modprobeDir(), rdmaOptionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	for _, mode := range []string{"exclusive", "shared"} {
		if strings.TrimSpace(string(b)) == "options ib_core "+rdmaOption(mode) {
			return mode, nil
		}
	}
	return "unknown", nil
}

// SetRdmaOption writes the file for a mode; "" removes it.
func (f Files) SetRdmaOption(mode string) error {
	name := filepath.Join(f.modprobeDir(), rdmaOptionFile)
	if mode == "" {
		if err := os.Remove(filepath.Join(f.Root, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return f.write(name, []byte("options ib_core "+rdmaOption(mode)+"\n"), 0o644)
}
