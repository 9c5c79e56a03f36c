// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/cluster"
	"github.com/sriovkit/sriovkit/e2e/image"
	"github.com/sriovkit/sriovkit/e2e/process"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

func runCluster(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("lab cluster", flag.ContinueOnError)
	hardware := nodeFlags(flags)
	version := func(name, variable, what string) {
		flags.Func(name, what+"; default is $"+variable+", or else the newest", func(s string) error { return os.Setenv(variable, s) })
	}
	version("kubernetes", artifact.KubernetesVariable, "`version` of Kubernetes, such as 1.36, which takes minutes to compile once")
	version("containerd", artifact.ContainerdVariable, "`version` of containerd: 1.7, or the default's 2")
	nodes := flags.Int("nodes", 1, "number of nodes, 1 or 2")
	var archives []string
	flags.Func("import", "image archive to load into the nodes, such as bin/images/*.tar; may be a `pattern`, may be repeated", func(pattern string) error {
		files, err := filepath.Glob(pattern)
		if err == nil && len(files) == 0 {
			err = errors.New("no such file")
		}
		for _, file := range files {
			err = errors.Join(err, image.CheckArchive(file)) // nodes take minutes to start
		}
		archives = append(archives, files...)
		return err
	})
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: lab cluster [flags] [command...]\n\n"+
			"A shell, or one command, beside a new cluster of emulated nodes, with KUBECONFIG set\n"+
			"and kubectl on the PATH. Leaving it takes the cluster down.\n\n")
		flags.PrintDefaults()
	}
	if err := parseNode(flags, hardware, args); err != nil {
		return err
	}
	if *nodes < 1 || *nodes > 2 {
		return fmt.Errorf("%d nodes, want 1 or 2", *nodes)
	}
	config := cluster.Config{}
	for range *nodes {
		config.Nodes = append(config.Nodes, *hardware)
	}
	c, err := cluster.Start(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for _, archive := range archives {
		if err := c.Import(ctx, archive); err != nil {
			return err
		}
	}

	if flags.NArg() == 0 {
		fmt.Fprintf(os.Stderr, `
kubectl is ready. A shell on a node:
	kubectl debug -it node/node1 --profile=sysadmin --image=%s -- chroot /host bash
From another terminal:
	nsenter --net=/proc/%d/fd/%d env KUBECONFIG=%s %s/kubectl get nodes
Leave this shell to take the cluster down.

`, cluster.BusyboxImage, os.Getpid(), c.Netns().File.Fd(), c.Kubeconfig, c.Programs)
	}
	env := append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "PATH="+c.Programs+":"+os.Getenv("PATH"))
	return beside(ctx, c.Netns().File, env, flags.Args())
}

// beside runs a command, or a shell if there is none, in a namespace until it ends. A signal
// is passed on.
func beside(ctx context.Context, netns *os.File, env, command []string) error {
	pass := syscall.SIGTERM
	shell := len(command) == 0
	if shell {
		command = []string{cmp.Or(os.Getenv("SHELL"), "bash")}
		// Ctrl-C is for what runs in the shell, so this program outlives it. Ignoring the signal
		// would be inherited by the shell; catching it is not.
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		pass = syscall.SIGHUP // the other means nothing to a shell with a terminal
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(pass) }
	cmd.WaitDelay = 10 * time.Second
	if err := process.Start(cmd, netns); err != nil {
		return err
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !errors.As(err, &exit):
		return err
	case shell:
		return nil // the status of the last command typed
	}
	status := exit.ExitCode()
	if w, ok := exit.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		status = 128 + int(w.Signal())
	}
	return &vm.ExitError{Args: command, Status: status}
}
