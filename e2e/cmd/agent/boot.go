// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// rootDisk is the first virtio disk; it holds an ext4 file system.
const rootDisk = "/dev/vda"

// path is what commands find programs in, in the absence of a login shell.
const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

// boot takes the system from the initramfs to a root disk on which programs run
// as on any other machine.
func boot() error {
	for _, m := range []mount{
		{source: "proc", target: "/proc", fstype: "proc"},
		{source: "sysfs", target: "/sys", fstype: "sysfs"},
		{source: "devtmpfs", target: "/dev", fstype: "devtmpfs"},
	} {
		if err := m.do(); err != nil {
			return err
		}
	}
	if kernelArgument("node.probe") != "" {
		return errors.New("this is a probe, and programs run")
	}
	if err := loadModules("/modules"); err != nil {
		return err
	}
	if err := switchRoot("/root"); err != nil {
		return err
	}
	for _, m := range []mount{
		{source: "devpts", target: "/dev/pts", fstype: "devpts", data: "ptmxmode=0666,mode=0620"},
		{source: "tmpfs", target: "/dev/shm", fstype: "tmpfs"},
		{source: "tmpfs", target: "/run", fstype: "tmpfs", data: "mode=0755"},
		{source: "tmpfs", target: "/tmp", fstype: "tmpfs", data: "mode=1777"},
		{source: "cgroup2", target: "/sys/fs/cgroup", fstype: "cgroup2"},
		{source: "bpf", target: "/sys/fs/bpf", fstype: "bpf"},
		{source: "debugfs", target: "/sys/kernel/debug", fstype: "debugfs"},
		{target: "/", flags: unix.MS_REC | unix.MS_SHARED}, // the kubelet wants mounts to propagate
	} {
		if err := m.do(); err != nil {
			return err
		}
	}
	if err := mountDisks(); err != nil {
		return err
	}
	if err := delegateControllers(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(kernelArgument("node.name"))); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	return errors.Join(os.Setenv("PATH", path), os.Setenv("HOME", "/root"))
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
	}
	return nil
}

// loadModules loads the kernel modules in dir in the order of their names.
func loadModules(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", e.Name(), err)
		}
	}
	return nil
}

// switchRoot makes the root disk the root of the mount tree, on top of the
// initramfs.
func switchRoot(newRoot string) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := mount{source: rootDisk, target: newRoot, fstype: "ext4", flags: unix.MS_NOATIME}.do()
		if err == nil {
			break
		}
		if !errors.Is(err, unix.ENOENT) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond) // the disk is probed in the background
	}
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		if err := unix.Mount(dir, newRoot+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", dir, err)
		}
	}
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root disk to /: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("enter the root disk: %w", err)
	}
	return os.Chdir("/")
}

// mountDisks mounts every further disk read only at /mnt/SERIAL.
func mountDisks() error {
	serials, err := filepath.Glob("/sys/block/vd[b-z]/serial")
	if err != nil {
		return err
	}
	for _, file := range serials {
		serial, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		disk := filepath.Join("/dev", filepath.Base(filepath.Dir(file)))
		target := filepath.Join("/mnt", strings.TrimSpace(string(serial)))
		if err := (mount{source: disk, target: target, fstype: "ext4", flags: unix.MS_RDONLY}).do(); err != nil {
			return err
		}
	}
	return nil
}

// delegateControllers enables every cgroup controller below the root group.
func delegateControllers() error {
	const root = "/sys/fs/cgroup/"
	names, err := os.ReadFile(root + "cgroup.controllers")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(names)) {
		if err := os.WriteFile(root+"cgroup.subtree_control", []byte("+"+name), 0); err != nil {
			return fmt.Errorf("enable cgroup controller %s: %w", name, err)
		}
	}
	return nil
}

// kernelArgument returns the value of name=value on the kernel's command line.
func kernelArgument(name string) string {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return ""
	}
	for arg := range strings.FieldsSeq(string(text)) {
		if value, ok := strings.CutPrefix(arg, name+"="); ok {
			return value
		}
	}
	return ""
}
