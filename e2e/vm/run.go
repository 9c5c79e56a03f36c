// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Command is a program to run on a node, as root in /root unless Dir is set.
type Command struct {
	Args           []string // name first; found in the usual PATH
	Dir            string
	Env            []string // NAME=value, added to the node's
	Stdin          io.Reader
	Stdout, Stderr io.Writer // nil discards
}

// ExitError is returned for a program that ran and ended with another status
// than 0. A signal counts as 128 plus its number.
type ExitError struct {
	Args   []string
	Status int
	Stderr string // end of the error output, if the caller did not take it
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("%s: exit status %d", strings.Join(e.Args, " "), e.Status)
	if e.Stderr != "" {
		text += ": " + strings.TrimSpace(e.Stderr)
	}
	return text
}

// Run runs a command on the node and waits for it. When ctx is done the command
// and its children are killed. The error is an *ExitError if the program ran.
func (v *VM) Run(ctx context.Context, c Command) error {
	session, err := v.session(ctx)
	if err != nil {
		return v.runError(c, err)
	}
	defer session.Close()
	var stderr bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = c.Stdin, c.Stdout, c.Stderr
	if c.Stderr == nil {
		session.Stderr = &stderr
	}
	if err := session.Start(commandLine(c)); err != nil {
		return v.runError(c, err)
	}
	done := make(chan error, 1)
	go func() { done <- session.Wait() }()
	select {
	case err = <-done:
	case <-v.console.fatal:
		return v.runError(c, v.console.err)
	case <-ctx.Done():
		session.Signal(ssh.SIGKILL) //nolint:errcheck // closing the session kills too
		return v.runError(c, context.Cause(ctx))
	}
	var exit *ssh.ExitError
	var missing *ssh.ExitMissingError
	switch {
	case errors.As(err, &exit):
		return &ExitError{Args: c.Args, Status: exit.ExitStatus(), Stderr: stderr.String()}
	case errors.As(err, &missing): // the node went away
		return v.runError(c, io.EOF)
	case err != nil:
		return v.runError(c, err)
	}
	return nil
}

// session is a new one. A node that is frozen does not answer: then ctx ends it.
func (v *VM) session(ctx context.Context) (*ssh.Session, error) {
	type answer struct {
		session *ssh.Session
		err     error
	}
	answers := make(chan answer, 1)
	go func() {
		session, err := v.client.NewSession()
		answers <- answer{session, err}
	}()
	select {
	case a := <-answers:
		return a.session, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Output runs a command and returns what it prints.
func (v *VM) Output(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	err := v.Run(ctx, Command{Args: args, Stdout: &out})
	return out.String(), err
}

// runError returns why the node is gone rather than the broken connection, which follows
// from that and is noticed first.
func (v *VM) runError(c Command, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		select {
		case <-v.console.fatal:
			err = v.console.err
		case <-v.exited:
			err = v.gone()
		case <-time.After(5 * time.Second):
		}
	}
	return fmt.Errorf("run %s on %s: %w", strings.Join(c.Args, " "), v.Name, err)
}

func commandLine(c Command) string {
	var words []string
	if c.Dir != "" {
		words = append(words, "cd", quote(c.Dir), "&&")
	}
	words = append(words, "exec", "env")
	for _, kv := range c.Env {
		words = append(words, quote(kv))
	}
	for _, a := range c.Args {
		words = append(words, quote(a))
	}
	return strings.Join(words, " ")
}

// quote makes s one word for the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func ignoreClosed(err error) error {
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}
