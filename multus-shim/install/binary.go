// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// binaryNames are those of the plugin: configurations of an older installation
// call it "multus".
var binaryNames = []string{"multus-shim", "multus"}

func (o *Options) source() (string, error) {
	if o.BinFile != "" {
		return o.BinFile, nil
	}
	return os.Executable()
}

// binaries installs the binary under each name, again if it is gone or somebody
// replaced it. A running plugin keeps its old file; a new one finds the whole new
// file.
func (in *installer) binaries() error {
	if in.SkipCopy {
		return nil
	}
	source, err := in.source()
	if err != nil {
		return err
	}
	for _, name := range binaryNames {
		target := filepath.Join(in.BinDir, name)
		if sameFile(target, in.copied[name]) {
			in.files.settle(target)
			continue
		}
		if same, err := sameContent(source, target); err != nil {
			return fmt.Errorf("install %s: %w", name, err)
		} else if !same {
			if in.copied[name] != nil && !in.files.mayRetry(target, []byte{}) {
				continue
			}
			if err := copyFile(source, target); err != nil {
				return fmt.Errorf("install %s: %w", name, err)
			}
			in.log.Info("installed binary", "file", target)
		}
		if in.copied[name], err = os.Stat(target); err != nil {
			return err
		}
	}
	return nil
}

// sameContent compares two files and their permission to run; a target that cannot
// be read is another one.
func sameContent(source, target string) (bool, error) {
	want, err := os.ReadFile(source)
	if err != nil {
		return false, err
	}
	info, err := os.Stat(target)
	if err != nil || info.Size() != int64(len(want)) || info.Mode().Perm() != binaryMode {
		return false, nil //nolint:nilerr // it is replaced
	}
	have, err := os.ReadFile(target)
	return err == nil && bytes.Equal(have, want), nil
}

const binaryMode = 0o755

func copyFile(source, target string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	return replace(target, binaryMode, in)
}
