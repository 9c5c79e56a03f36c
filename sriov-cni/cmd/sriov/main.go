// SPDX-License-Identifier: Apache-2.0

// The Go runtime does not look again and again for a CPU limit: a call lasts some milliseconds.
// That it looks once, when it starts, nothing but GOMAXPROCS in the environment keeps it from.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command sriov is a CNI plugin that gives pods SR-IOV virtual functions, and
// the installer of itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	cniversion "github.com/containernetworking/cni/pkg/version"

	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/sriov-cni/install"
	"github.com/sriovkit/sriovkit/sriov-cni/plugin"
	"github.com/sriovkit/sriovkit/sriov-cni/request"
)

// version is set by the linker (-X main.version=).
var version = "devel"

const usage = `sriov is a CNI plugin: it gives a pod an SR-IOV virtual function.

Container runtimes run it with CNI_COMMAND and its fellows in the environment
and the network's configuration on stdin (https://www.cni.dev/docs/spec/).
By hand:

  sriov -version    print version and CNI versions
  sriov install     copy the plugin into the host's CNI directory; see -h there
  sriov check FILE  what ADD would refuse of CNI configurations, or of all networks:
                    kubectl get net-attach-def -A -o json | sriov check
`

func main() {
	if os.Getenv("CNI_COMMAND") != "" {
		if err := serve(context.Background()); err != nil {
			if printErr := err.Print(); printErr != nil { // on stdout, as one document
				fmt.Fprintln(os.Stderr, "sriov: write error to stdout:", printErr)
			}
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args, os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "sriov:", err)
		os.Exit(1)
	}
}

// serve is one CNI call. It prints its result.
func serve(ctx context.Context) *types.Error {
	if err := limitStdin(); err != nil {
		return err
	}
	p := &plugin.Plugin{Root: "/", StateDir: plugin.DefaultStateDir, Stdout: os.Stdout, Stderr: os.Stderr}
	return skel.PluginMainFuncsWithError(p.Funcs(ctx), cniversion.All, "")
}

// limitStdin reads what is on stdin and puts it there again, for package skel
// would read on without end.
func limitStdin() *types.Error {
	b, err := io.ReadAll(io.LimitReader(os.Stdin, request.MaxStdin+1))
	if err != nil {
		return types.NewError(types.ErrIOFailure, "read configuration from stdin: "+err.Error(), "")
	}
	if err := request.CheckStdin(b, os.Getenv("CNI_COMMAND")); err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC)
	if err == nil {
		f := os.NewFile(uintptr(fd), "stdin")
		os.Stdin = f
		if _, err = f.Write(b); err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
	}
	if err != nil {
		return types.NewError(types.ErrIOFailure, "keep configuration: "+err.Error(), "")
	}
	return nil
}

// run is what is asked for on the command line. The container image starts the
// binary under the name that its entry point always had.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	if strings.HasPrefix(filepath.Base(args[0]), "entrypoint") {
		return install.Run(ctx, args[1:], stdout)
	}
	if len(args) > 1 && args[1] == "install" {
		return install.Run(ctx, args[2:], stdout)
	}
	toCheck := len(args) > 1 && args[1] == "check"
	if toCheck {
		args = args[1:]
	}
	flags := flag.NewFlagSet("sriov", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	printVersion := flags.Bool("version", false, "")
	err := flags.Parse(args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return err
	case err != nil:
		return fmt.Errorf("%w; see -help", err)
	case *printVersion:
		fmt.Fprintf(stdout, "sriov %s (CNI %s)\n", version, strings.Join(cniversion.All.SupportedVersions(), ", "))
		return nil
	case toCheck:
		return check(flags.Args(), os.Stdin, stdout)
	case flags.NArg() > 0:
		return fmt.Errorf("unknown command %q; see -help", flags.Arg(0))
	}
	return errors.New("CNI_COMMAND is not set: this is a CNI plugin, which container runtimes run; see -help")
}
