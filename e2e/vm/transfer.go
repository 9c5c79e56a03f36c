// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// Push copies a file or a directory, with everything in it, to path to on the
// node. Missing parents are created; modes and links are kept.
func (v *VM) Push(ctx context.Context, from, to string) error {
	pack := exec.CommandContext(ctx, "tar", "-C", filepath.Dir(from), "-cf", "-", "--owner=0", "--group=0", filepath.Base(from))
	unpack := fmt.Sprintf("d=$(mktemp -d -p /var/tmp) && tar -C $d -xf - && mkdir -p %[1]s && rm -rf %[2]s && mv $d/* %[2]s && rmdir $d",
		quote(filepath.Dir(to)), quote(to))
	var packErrs bytes.Buffer
	pack.Stderr = &packErrs
	out, err := pack.StdoutPipe()
	if err != nil {
		return err
	}
	if err := pack.Start(); err != nil {
		return err
	}
	err = v.Run(ctx, Command{Args: []string{"sh", "-c", unpack}, Stdin: out})
	io.Copy(io.Discard, out) //nolint:errcheck // lets tar end if the node did not take everything
	if packErr := pack.Wait(); packErr != nil {
		return fmt.Errorf("pack %s: %w: %s", from, packErr, bytes.TrimSpace(packErrs.Bytes()))
	}
	return err
}

// Pull copies a file or a directory of the node to path to, which must not exist
// if from is a directory.
func (v *VM) Pull(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(to), ".pull-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	unpack := exec.CommandContext(ctx, "tar", "-C", tmp, "-xf", "-", "--no-same-owner")
	var unpackErrs bytes.Buffer
	unpack.Stderr = &unpackErrs
	in, err := unpack.StdinPipe()
	if err != nil {
		return err
	}
	if err := unpack.Start(); err != nil {
		return err
	}
	err = v.Run(ctx, Command{Args: []string{"tar", "-C", filepath.Dir(from), "-cf", "-", filepath.Base(from)}, Stdout: in})
	in.Close()
	if waitErr := unpack.Wait(); err == nil && waitErr != nil {
		err = fmt.Errorf("unpack: %w: %s", waitErr, bytes.TrimSpace(unpackErrs.Bytes()))
	}
	if err != nil {
		return fmt.Errorf("pull %s from %s: %w", from, v.Name, err)
	}
	return os.Rename(filepath.Join(tmp, filepath.Base(from)), to)
}
