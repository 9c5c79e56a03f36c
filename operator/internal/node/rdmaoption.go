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

// rdmaOptionFile is the file of upstream's operator, below the directory of modprobe's
// configuration. It sets the mode of a later boot, where ib_core is a module that is
// loaded from the root file system; boot configuration is left alone.
const rdmaOptionFile = "sriov_network_operator_modules_config.conf"

// rdmaOption is ib_core's parameter for a mode (linux/drivers/infiniband/core/device.c).
func rdmaOption(mode string) string {
	return fmt.Sprintf("netns_mode=%d", map[string]int{"exclusive": 0, "shared": 1}[mode])
}

// RdmaOption reports the mode that the module's options ask for; "" if SetRdmaOption asked for
// none.
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

// SetRdmaOption asks for a mode from the next boot on; "" for none.
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
