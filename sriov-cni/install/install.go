// SPDX-License-Identifier: Apache-2.0

// Package install puts the plugin's binary into the host's CNI directory, as
// the entry point of the container image. It runs as root in a container that
// has that directory mounted, and needs no capability.
package install

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Run copies the binary and then, unless told otherwise, stays until ctx ends,
// which is how a DaemonSet wants it.
func Run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("install", flag.ContinueOnError)
	flags.SetOutput(stdout)
	dir := flags.String("cni-bin-dir", "/host/opt/cni/bin", "copy to this `directory`, the host's CNI directory")
	binary := flags.String("sriov-bin-file", "/usr/bin/sriov", "copy this `file`")
	noSleep := flags.Bool("no-sleep", false, "end when done, for an init container")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown parameter %q; see --help", flags.Arg(0))
	}
	to, err := Copy(*binary, *dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "installed %s\n", to)
	if !*noSleep {
		<-ctx.Done()
	}
	return nil
}

// Copy puts a file into a directory under its own name. It appears there at
// once and whole: a runtime that starts it meanwhile gets the old one or the
// new one.
func Copy(file, dir string) (to string, err error) {
	in, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer in.Close()
	to = filepath.Join(dir, filepath.Base(file))
	out, err := os.CreateTemp(dir, "."+filepath.Base(file)+".*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(out.Name()))
		}
	}()
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Chmod(0o755)
	}
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return "", err
	}
	return to, os.Rename(out.Name(), to)
}
