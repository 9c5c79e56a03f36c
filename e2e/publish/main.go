// SPDX-License-Identifier: Apache-2.0

// The publish command brings the images of "make images" to people: into a registry or into
// one archive for places without a network, with what they need to trust them.
//
// Each image gets a list of what is inside (CycloneDX, read from the programs themselves) and
// how it was made (SLSA provenance), as OCI referrers, and everything is signed in the format
// of the Notary Project, which "notation verify" checks.
//
// It is a module of its own, outside the workspace, so that tests of the rest need not
// compile signature formats.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unicode"
)

const usage = `publish: images of sriovkit to registries and into archives

  publish push -registry HOST/PATH -key FILE -certificate FILE [-images DIR]
  publish bundle -o FILE -key FILE -certificate FILE [-images DIR] [-extra DIR]
  publish load -bundle FILE -registry HOST/PATH -certificate FILE

Without keys and certificates: -unsigned. Each takes -h.
`

func main() {
	signal.Ignore(syscall.SIGPIPE) // nobody reading what it says does not end it between two tags
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "publish:", printable(err.Error()))
		os.Exit(1)
	}
}

// printable takes out what would steer a terminal: archives and registries say what they like.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return errors.New("give a subcommand: push, bundle or load")
	}
	commands := map[string]func(context.Context, *flag.FlagSet, []string, io.Writer) error{
		"push": runPush, "bundle": runBundle, "load": runLoad,
	}
	command, ok := commands[args[0]]
	if !ok {
		fmt.Fprint(stderr, usage)
		return fmt.Errorf("no such subcommand: %q", args[0])
	}
	flags := flag.NewFlagSet("publish "+args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	return command(ctx, flags, args[1:], stdout)
}

func runPush(ctx context.Context, flags *flag.FlagSet, args []string, stdout io.Writer) error {
	var to destination
	to.flags(flags)
	ask := func(s *stage) error {
		_, err := to.check(ctx, s)
		return err
	}
	return release(ctx, flags, args, ask, func(s *stage) error { return to.push(ctx, s, stdout) })
}

func runBundle(ctx context.Context, flags *flag.FlagSet, args []string, stdout io.Writer) error {
	out := flags.String("o", "bin/sriovkit-bundle.tar", "`file` to write")
	extra := flags.String("extra", "", "`directory` whose files go in as they are: charts, manifests")
	ask := func(s *stage) error { return s.checkCharts(*extra) }
	return release(ctx, flags, args, ask, func(s *stage) error { return s.bundle(*out, *extra, stdout) })
}

// release hands the images of make images on, with what they need to be trusted. ask comes
// before the work of minutes.
func release(ctx context.Context, flags *flag.FlagSet, args []string, ask, do func(*stage) error) error {
	images := flags.String("images", "bin/images", "`directory` that make images wrote")
	var key signingKey
	key.flags(flags)
	if err := parse(flags, args); err != nil {
		return err
	}
	signer, err := key.open()
	if err != nil {
		return err
	}
	found, err := archives(*images)
	if err != nil {
		return err
	}
	return withStage(ctx, found, func(s *stage) error {
		if err := ask(s); err != nil {
			return err
		}
		if err := s.attest(ctx); err != nil {
			return err
		}
		if err := s.sign(ctx, signer); err != nil {
			return err
		}
		s.signedBy = key.certificate
		return do(s)
	})
}

func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q: all is given by flags", flags.Arg(0))
	}
	return nil
}

func runLoad(ctx context.Context, flags *flag.FlagSet, args []string, stdout io.Writer) error {
	bundle := flags.String("bundle", "", "`archive` that publish bundle wrote")
	certificate := flags.String("certificate", "", "PEM `file` of the certificate that signatures must come from")
	unsigned := flags.Bool("unsigned", false, "load whatever the archive has, without a look at signatures")
	var to destination
	to.flags(flags)
	if err := parse(flags, args); err != nil {
		return err
	}
	switch {
	case *bundle == "":
		return errors.New("give the archive: -bundle FILE")
	case *unsigned && *certificate != "":
		return errors.New("-unsigned and a certificate: give one of them")
	case !*unsigned && *certificate == "":
		return errors.New("no certificate that signatures must come from: give -certificate, or -unsigned to load the archive without a check")
	}
	return withStage(ctx, []string{*bundle}, func(s *stage) error {
		if *certificate != "" {
			if err := s.verify(ctx, *certificate); err != nil {
				return err
			}
		}
		return to.push(ctx, s, stdout)
	})
}
