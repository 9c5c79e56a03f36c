// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// trouble maps parts of kernel messages to what they mean.
var trouble = []struct {
	text    string
	meaning string
	fatal   bool // the node is not usable any more
}{
	{"PF still in reset state", "a VF found its PF down: bring the PF up before creating VFs (or the node has too much memory, see Config.MemoryMiB)", false},
	{"Kernel panic", "the kernel of the node gave up", true},
	{"agent: ", "the agent of the node gave up", true},
	{"I/O error, dev vd", "what the node writes to its disk finds no room in the cache directory, or that cannot be read", true},
	{"Unable to mount root fs", "the node's kernel has no initramfs; remove the cached stages kernel and initramfs", true},
	{"BUG: ", "the kernel of the node has a bug or was given bad hardware", false},
	{"Out of memory: Killed", "the node ran out of memory, see Config.MemoryMiB", false},
}

// console writes the node's console to a file and looks for trouble.
type console struct {
	file *os.File
	log  io.Writer
	name string

	mu    sync.Mutex
	line  []byte
	last  time.Time     // of the last output
	fatal chan struct{} // closed at the first fatal message
	err   error
}

func newConsole(path, name string, log io.Writer) (*console, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &console{file: f, log: log, name: name, last: time.Now(), fatal: make(chan struct{})}, nil
}

// silence is the time since the node printed anything.
func (c *console) silence() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.last)
}

// Write takes what the node prints, in pieces of any size.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now()
	c.line = append(c.line, p...)
	for {
		i := bytes.IndexByte(c.line, '\n')
		if i < 0 {
			break
		}
		c.check(strings.TrimSpace(string(c.line[:i])))
		c.line = c.line[i+1:]
	}
	return c.file.Write(p)
}

func (c *console) check(line string) {
	for _, t := range trouble {
		if !strings.Contains(line, t.text) {
			continue
		}
		fmt.Fprintf(c.log, "%s: console: %s\n%s: %s\n", c.name, line, c.name, t.meaning)
		if t.fatal {
			c.failLocked(fmt.Errorf("%s: %s", t.meaning, line))
		}
		return
	}
}

// fail says that the node is not usable any more; the first reason counts.
func (c *console) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(err)
}

func (c *console) failLocked(err error) {
	if c.err == nil {
		c.err = err
		close(c.fatal)
	}
}
