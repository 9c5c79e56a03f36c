// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

// Shell connects a terminal to a login shell on the node until the shell ends.
// If in is not a terminal, the shell reads its commands from it.
func (v *VM) Shell(ctx context.Context, in, out *os.File) error {
	fd := int(in.Fd())
	if !term.IsTerminal(fd) {
		return v.Run(ctx, Command{Args: []string{"bash", "--login"}, Stdin: in, Stdout: out, Stderr: os.Stderr})
	}
	session, err := v.client.NewSession()
	if err != nil {
		return v.runError(Command{Args: []string{"shell"}}, err)
	}
	defer session.Close()
	session.Stdin, session.Stdout, session.Stderr = in, out, out

	width, height, err := term.GetSize(fd)
	if err != nil {
		return err
	}
	if err := session.RequestPty(os.Getenv("TERM"), height, width, ssh.TerminalModes{}); err != nil {
		return err
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return err
	}
	defer term.Restore(fd, state) //nolint:errcheck // nothing better to do with a lost terminal

	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	if err := session.Shell(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- session.Wait() }()
	for {
		select {
		case <-resized:
			if width, height, err := term.GetSize(fd); err == nil {
				session.WindowChange(height, width) //nolint:errcheck // cosmetic
			}
		case err := <-done:
			var exit *ssh.ExitError
			if errors.As(err, &exit) { // the status of the last command typed
				return nil
			}
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
