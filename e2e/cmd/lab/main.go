// SPDX-License-Identifier: Apache-2.0

// The lab command gives people what the tests use: an emulated node with SR-IOV
// NICs, a Kubernetes cluster made of such nodes, or a demo on one. Everything it
// starts is gone when it ends; only the demo stays, until it is told to go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"github.com/sriovkit/sriovkit/e2e/vm"
)

const usage = `usage: lab COMMAND [flags]

	vm        a shell in an emulated node with SR-IOV NICs
	cluster   a shell beside a Kubernetes cluster of such nodes
	demo      sriovkit installed on such a cluster, and pods that use it; stays
	demo-down take the demo down
	capture   record the sysfs tree of an emulated node as a text archive
	images    build the container images of all components
	programs  build the programs of the components, as they are shipped
	build     build everything the other commands need, and nothing else
	controlplane  etcd and kube-apiserver for the tests of other modules
	install   install Debian packages on this machine that are not there yet
	test-arch tests compiled for another architecture, under emulation

lab COMMAND -h lists the flags. What is built is kept in $SRIOVKIT_CACHE
(default: sriovkit in the user's cache directory).
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	err := run(ctx, os.Args[1:])
	stopped := ctx.Err() != nil
	stop()
	var exit *vm.ExitError
	switch {
	case errors.As(err, &exit): // of the command somebody asked for, which said what was wrong
		os.Exit(exit.Status)
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil && stopped:
		fmt.Fprintln(os.Stderr, "lab: stopped by a signal. Nothing that it started is left; what was built is kept, and the same command goes on from there.")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	commands := map[string]func(context.Context, []string) error{
		"vm":              runVM,
		"cluster":         runCluster,
		"capture":         runCapture,
		"images":          runImages,
		"programs":        runPrograms,
		"demo":            runDemo,
		"demo-down":       runDemoDown,
		"demo-supervisor": runDemoSupervisor,
		"build":           runBuild,
		"controlplane":    runControlPlane,
		"install":         runInstall,
		"test-arch":       runTestArch,
	}
	switch {
	case len(args) == 0 || slices.Contains([]string{"-h", "-help", "--help", "help"}, args[0]):
		fmt.Fprint(os.Stderr, usage)
		return flag.ErrHelp
	case commands[args[0]] == nil:
		return fmt.Errorf("there is no command %q; lab -h lists them", args[0])
	}
	if _, err := exec.LookPath("go"); err != nil && args[0] != "demo-down" {
		return fmt.Errorf("%w: what this command needs is compiled; install Go 1.26 or newer, or put its bin directory on the PATH", err)
	}
	return commands[args[0]](ctx, args[1:])
}
