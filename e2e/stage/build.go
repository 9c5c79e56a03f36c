// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/sriovkit/sriovkit/e2e/process"
)

// tailLines is how much of a failed command's output an error carries.
const tailLines = 20

// Build is what a stage's Build function works with.
type Build struct {
	Dir      string // fill this
	log      io.Writer
	progress *progress
}

// Step names what happens from here on, for the progress lines.
func (b *Build) Step(format string, args ...any) {
	b.progress.step(fmt.Sprintf(format, args...))
}

// goTemp is where Go builds, so that what a killed one leaves goes with the build.
func (b *Build) goTemp() string { return filepath.Join(b.Dir, ".go") }

// Command is a program run by a build.
type Command struct {
	Dir   string    // working directory; empty is the build's own
	Env   []string  // added to the environment
	Stdin io.Reader // nil is no input
	Args  []string  // name first
}

// Run runs a program and returns its standard output. Everything it prints goes
// to the stage's log; an error carries the end of it. When ctx is done the
// program and everything it started are interrupted, and what is left of them
// after a while is killed.
func (b *Build) Run(ctx context.Context, c Command) (stdout []byte, err error) {
	fmt.Fprintf(b.log, "+ %s\n", strings.Join(c.Args, " "))
	var out bytes.Buffer
	transcript := &transcript{log: b.log}
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = b.Dir
	}
	cmd.Env = append(append(os.Environ(), "GOTMPDIR="+b.goTemp()), c.Env...)
	cmd.Stdin = c.Stdin
	cmd.Stdout = io.MultiWriter(&out, transcript)
	cmd.Stderr = transcript
	process.Interruptible(cmd)
	err = process.Start(cmd, nil)
	if err == nil {
		err = cmd.Wait()
		if ctx.Err() != nil {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // nothing left is fine
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(c.Args[:min(len(c.Args), 4)], " "), err, tail(transcript.text.String()))
	}
	return out.Bytes(), nil
}

// transcript collects both streams of a command, in the order of arrival.
type transcript struct {
	log  io.Writer
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text.Write(p)
	return t.log.Write(p)
}

func tail(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if cut := len(lines) - tailLines; cut > 0 {
		lines = append([]string{fmt.Sprintf("(%d lines before)", cut)}, lines[cut:]...)
	}
	return "\t" + strings.Join(lines, "\n\t")
}
