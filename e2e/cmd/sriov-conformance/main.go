// SPDX-License-Identifier: Apache-2.0

// The sriov-conformance command tries one SR-IOV NIC: whether its VFs come and go, take
// the settings their PF can make, are kept apart, can be moved and handed to userspace,
// and survive the CNI plugin. It is for an administrator, on a node with a PF to spare.
//
// It says first what it will touch and refuses a PF that is in use. It ends with the PF
// as it was and prints one JSON document; progress goes to standard error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/sriovkit/sriovkit/e2e/conformance"
	"github.com/sriovkit/sriovkit/libsriov"
)

// version is set by the linker.
var version = "devel"

// The first thread of a program cannot end before it: a namespace that a goroutine made on
// it would stay, with the VF in it. So it is main's alone.
func init() { runtime.LockOSThread() }

func main() {
	// One of them is that nobody reads what is printed any more.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// Exit statuses.
const (
	passed     = 0
	failed     = 1 // a check, or the PF is not as it was
	notStarted = 2 // nothing was touched
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("sriov-conformance", flag.ContinueOnError)
	flags.SetOutput(stderr)
	o := conformance.Options{Log: stderr}
	pf := flags.String("pf", "", "PCI `address` of the PF to try, such as 0000:3b:00.0; empty lists the PFs")
	flags.IntVar(&o.VFs, "vfs", 2, "VFs to make for most checks, at least 2")
	flags.StringVar(&o.Plugin, "plugin", "/opt/cni/bin/sriov", "CNI plugin to try; its checks are skipped where there is none")
	flags.IntVar(&o.Kills, "kills", 10, "how often to kill the plugin in the middle of an ADD")
	flags.StringVar(&o.Only, "only", "", "regular `expression` of the checks to run; empty is all")
	flags.DurationVar(&o.Patience, "patience", 10*time.Second, "how long a driver may take until what it has accepted is in force and in its report")
	yes := flags.Bool("yes", false, "begin; without it the command only says what it would touch")
	showVersion := flags.Bool("version", false, "print the version and exit")
	out := flags.String("o", "", "`file` for the JSON document; empty is standard output")
	flags.Usage = func() {
		fmt.Fprint(stderr, "usage: sriov-conformance -pf ADDRESS [-yes] [flags]\n\nTry an SR-IOV NIC. Needs root and a PF that nothing uses.\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return notStarted
	}
	if *showVersion {
		fmt.Fprintln(stdout, "sriov-conformance", version)
		return passed
	}
	err := func() error {
		if flags.NArg() > 0 {
			return fmt.Errorf("unexpected argument %q", flags.Arg(0))
		}
		if *pf == "" {
			return conformance.List(stderr)
		}
		address, err := libsriov.ParseAddress(*pf)
		if err != nil {
			return fmt.Errorf("-pf: %w", err)
		}
		o.PF = address
		return nil
	}()
	if err != nil {
		fmt.Fprintln(stderr, "sriov-conformance:", err)
		return notStarted
	}
	if *pf == "" {
		return notStarted
	}
	return try(ctx, o, *yes, *out, stdout, stderr)
}

// try says what it would touch and, if that is wanted, tries the PF and writes the report
// to the file out, or to standard output if that is empty.
func try(ctx context.Context, o conformance.Options, yes bool, out string, stdout, stderr io.Writer) int {
	kit, err := conformance.New(o)
	if err != nil {
		fmt.Fprintln(stderr, "sriov-conformance:", err)
		return notStarted
	}
	defer kit.Close()
	fmt.Fprint(stderr, kit.Plan())
	if !yes {
		fmt.Fprintln(stderr, "Nothing was touched. Run again with -yes to begin.")
		return notStarted
	}
	document := stdout
	if out != "" { // before anything is touched
		file, err := os.Create(out)
		if err != nil {
			fmt.Fprintln(stderr, "sriov-conformance: -o:", err)
			return notStarted
		}
		defer file.Close()
		document = file
	}
	report, err := kit.Run(ctx)
	text, jsonErr := json.MarshalIndent(report, "", "  ")
	if jsonErr == nil {
		_, jsonErr = fmt.Fprintf(document, "%s\n", text)
	}
	err = errors.Join(err, jsonErr)
	fmt.Fprintf(stderr, "\n%s\n%s\n\n", conformance.RowHead, report.Row)
	switch {
	case err != nil:
		fmt.Fprintln(stderr, "sriov-conformance:", err)
		return failed
	case report.Verdict != conformance.Pass:
		return failed
	}
	return passed
}
