// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// runTestArch is go test for another architecture, each test program under emulation.
func runTestArch(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("lab test-arch", flag.ContinueOnError)
	arch := flags.String("arch", "arm64", "`architecture`: arm64, ppc64le or s390x")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: lab test-arch [flags] -- ARGUMENTS OF go test\n\n"+
			"Run tests of another architecture under QEMU's emulation of processes. What such a program starts is not emulated.\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	cache, err := stage.Open(os.Stderr)
	if err != nil {
		return err
	}
	emulator, err := artifact.BuildUserMode(ctx, cache, *arch)
	if err != nil {
		return err
	}
	test := exec.CommandContext(ctx, "go", append([]string{"test", "-exec", emulator}, flags.Args()...)...)
	test.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+*arch, "CGO_ENABLED=0")
	test.Stdout, test.Stderr = os.Stdout, os.Stderr
	return test.Run()
}
