// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

// nodeFlags are the flags that describe a node.
func nodeFlags(flags *flag.FlagSet) *vm.Config {
	c := &vm.Config{}
	flags.StringVar(&c.Kernel, "kernel", "", "kernel of the node: "+strings.Join(artifact.Kernels(), ", ")+"; default is $SRIOVKIT_KERNEL, or else the newest 6.12")
	flags.IntVar(&c.PFs, "pfs", 2, "number of igb ports, 1 to 16")
	flags.IntVar(&c.VirtioPFs, "virtio", 0, "number of virtio ports with SR-IOV beside them, 8 cards at most in all")
	flags.BoolVar(&c.DualPort, "dual-port", false, "put two ports on each card")
	flags.BoolVar(&c.NUMA, "numa", false, "two NUMA nodes, with cards on both")
	flags.IntVar(&c.MemoryMiB, "memory", 2048, "`MiB` of memory, 512 to 2800")
	flags.Func("modules", "kernel modules to load, separated by commas, such as netdevsim,vdpa_sim_net", func(s string) error {
		c.Modules = strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
		return nil
	})
	return c
}

// parseNode reads flags, with those of nodeFlags among them, and says what is wrong with the
// node before anything is built.
func parseNode(flags *flag.FlagSet, c *vm.Config, args []string) error {
	err := flags.Parse(args)
	switch {
	case err != nil:
		return err
	case c.PFs == 0: // which elsewhere is the default
		return errors.New("-pfs is 0, want 1 to 16")
	case c.MemoryMiB == 0:
		return errors.New("-memory is 0, want 512 to 2800")
	}
	return c.Check()
}

func runVM(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("lab vm", flag.ContinueOnError)
	config := nodeFlags(flags)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: lab vm [flags] [command...]\n\nA shell, or one command, in a new emulated node. Leaving it takes the node down.\n\n")
		flags.PrintDefaults()
	}
	if err := parseNode(flags, config, args); err != nil {
		return err
	}
	v, err := vm.Boot(ctx, *config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if flags.NArg() > 0 {
		return v.Run(ctx, vm.Command{Args: flags.Args(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	}
	fmt.Fprintf(os.Stderr, "The PFs are igb functions (ip -br link, lspci). Console: %s\n", v.ConsolePath)
	return v.Shell(ctx, os.Stdin, os.Stdout)
}

// captureCommand is the package that records a sysfs tree; it runs on the node.
const captureCommand = "github.com/sriovkit/sriovkit/libsriov/sriovtest/capture"

func runCapture(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("lab capture", flag.ContinueOnError)
	config := nodeFlags(flags)
	out := flags.String("o", "igb-qemu.ttar", "`file` to write")
	const most = 7 // of an igb port
	vfs := flags.Int("vfs", 2, fmt.Sprintf("VFs to create on each port first, 0 to %d", most))
	if err := parseNode(flags, config, args); err != nil {
		return err
	}
	if *vfs < 0 || *vfs > most {
		return fmt.Errorf("-vfs is %d, want 0 to %d", *vfs, most)
	}
	if _, err := os.Stat(filepath.Dir(*out)); err != nil {
		return fmt.Errorf("-o: %w", err)
	}
	dir, err := os.MkdirTemp("", "sriovkit-capture-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "capture")
	build := exec.CommandContext(ctx, "go", "build", "-o", bin, captureCommand)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", captureCommand, err, text)
	}
	v, err := vm.Boot(ctx, *config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if err := v.Push(ctx, bin, "/usr/local/bin/capture"); err != nil {
		return err
	}
	script := fmt.Sprintf(`for pf in /sys/bus/pci/devices/*/sriov_totalvfs; do
	pf=${pf%%/*}; ip link set "$(ls $pf/net)" up; echo %d > $pf/sriov_numvfs; done; capture > /root/tree.ttar`, *vfs)
	if err := v.Run(ctx, vm.Command{Args: []string{"sh", "-ec", script}, Stderr: os.Stderr}); err != nil {
		return err
	}
	if err := v.Pull(ctx, "/root/tree.ttar", *out); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "wrote", *out)
	return nil
}
