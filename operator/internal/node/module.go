// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// moduleLimit bounds the time to load a module and those that it depends on.
const moduleLimit = time.Minute

// loadModule loads a module unless it is built in or loaded. It uses the host's modprobe,
// which follows the host's configuration. On hosts without one, such as Talos, it loads the
// module and its dependencies itself.
func (m *Machine) loadModule(ctx context.Context, module string) error {
	if present, err := m.hasModule(module); err != nil || present {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, moduleLimit)
	defer cancel()
	for _, dir := range []string{"sbin", "usr/sbin", "bin", "usr/bin"} {
		if info, err := os.Stat(filepath.Join(m.Files.Root, dir, "modprobe")); err == nil && info.Mode().IsRegular() {
			return m.modprobe(ctx, "/"+dir+"/modprobe", module)
		}
	}
	return m.insertModule(module)
}

// hasModule reports whether a module is loaded or built in. A loaded module has a directory in
// sysfs; a built-in one only if it has parameters, so modules.builtin is read too
// (https://docs.kernel.org/kbuild/kbuild.html).
func (m *Machine) hasModule(module string) (bool, error) {
	_, err := os.Stat(filepath.Join(m.Files.Root, "sys/module", underscored(module)))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err == nil, err
	}
	dir, err := m.modulesDir()
	if err != nil {
		return false, err
	}
	found := false
	err = eachLine(filepath.Join(dir, "modules.builtin"), func(line string) {
		found = found || moduleName(line) == underscored(module)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return found, err
}

func (m *Machine) modulesDir() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", err
	}
	release := unix.ByteSliceToString(name.Release[:])
	for _, dir := range []string{"lib/modules", "usr/lib/modules"} {
		path := filepath.Join(m.Files.Root, dir, release)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return filepath.Join(m.Files.Root, "lib/modules", release), nil
}

// modprobe loads a module with the host's own tool and modules.
func (m *Machine) modprobe(ctx context.Context, program, module string) error {
	cmd := exec.CommandContext(ctx, program, module)
	cmd.Dir = "/"
	if m.Files.Root != "/" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.Files.Root}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("modprobe %s: %w: %s", module, err, out)
	}
	return nil
}

// insertModule loads a module after its dependencies, which modules.dep lists.
func (m *Machine) insertModule(module string) error {
	dir, err := m.modulesDir()
	if err != nil {
		return err
	}
	var files []string
	err = eachLine(filepath.Join(dir, "modules.dep"), func(line string) {
		if file, needs, ok := strings.Cut(line, ":"); ok && moduleName(file) == underscored(module) {
			files = append([]string{file}, strings.Fields(needs)...) // each before its dependencies: load from the end
		}
	})
	if err != nil {
		return fmt.Errorf("load module %s: %w", module, err)
	}
	if len(files) == 0 {
		return fmt.Errorf("load module %s: %s has none of that name: install it on the node", module, dir)
	}
	for i := len(files) - 1; i >= 0; i-- {
		if err := insertFile(filepath.Join(dir, files[i])); err != nil {
			return fmt.Errorf("load module %s: %s: %w", module, files[i], err)
		}
	}
	return nil
}

// insertFile loads a module file. The kernel decompresses compressed ones since Linux 5.17
// (finit_module(2)).
func insertFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(path, ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	if err := unix.FinitModule(int(f.Fd()), "", flags); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// moduleName returns the name of the module in a file: vfio_pci for
// kernel/drivers/vfio/pci/vfio-pci.ko.xz.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(strings.TrimSpace(file)), ".ko")
	return underscored(name)
}

func underscored(module string) string { return strings.ReplaceAll(module, "-", "_") }

func eachLine(path string, f func(line string)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		f(lines.Text())
	}
	return lines.Err()
}
