// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/atomicwriter"
)

// searchDirs are where images of CNI plugins keep them.
var searchDirs = []string{"/", "/usr/bin", "/usr/local/bin", "/bin", "/opt/cni/bin"}

// runInstall copies programs. Each is replaced by rename, so that a runtime that starts it
// meanwhile gets the old one or the new one, whole. One that is equal already is left alone.
func runInstall(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("install", flag.ContinueOnError)
	flags.SetOutput(stderr)
	to := flags.String("to", "", "directory to put the programs into; it is made if need be")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *to == "" || flags.NArg() == 0 {
		return errors.New("usage: sriovkit-operator install -to DIR FILE...; FILE is a path, or a name looked for in " + strings.Join(searchDirs, ", "))
	}
	if err := os.MkdirAll(*to, 0o755); err != nil {
		return err
	}
	for _, name := range flags.Args() {
		source, err := find(name)
		if err != nil {
			return err
		}
		target := filepath.Join(*to, filepath.Base(source))
		content, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		if old, err := os.ReadFile(target); err == nil && bytes.Equal(old, content) {
			fmt.Fprintln(stdout, target, "is up to date")
			continue
		}
		if err := atomicwriter.WriteFile(target, content, 0o755); err != nil {
			return fmt.Errorf("install %s: %w", target, err)
		}
		fmt.Fprintln(stdout, target, "installed")
	}
	return nil
}

func find(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range searchDirs {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("install %s: not in %s: %w", name, strings.Join(searchDirs, ", "), fs.ErrNotExist)
}
