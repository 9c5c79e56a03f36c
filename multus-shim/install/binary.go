package install

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// copyBinary installs the binary under each name. A running plugin keeps its
// old file; a new one finds the whole new file.
func copyBinary(o *Options) error {
	source, err := o.source()
	if err != nil {
		return err
	}
	for _, name := range binaryNames {
		if err := copyFile(source, filepath.Join(o.BinDir, name)); err != nil {
			return fmt.Errorf("install %s: %w", name, err)
		}
	}
	return nil
}

func binaryThere(o *Options) bool {
	for _, name := range binaryNames {
		if _, err := os.Stat(filepath.Join(o.BinDir, name)); errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

func copyFile(source, target string) (err error) {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(out.Name()))
		}
	}()
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Chmod(0o755), out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), target)
}
