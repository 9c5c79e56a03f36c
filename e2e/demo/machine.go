// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// availableMiB is what programs can have without swapping, /proc/meminfo.
func availableMiB() (int, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if kiB, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kiB), "kB")))
			return n >> 10, err
		}
	}
	return 0, errors.New("/proc/meminfo: no MemAvailable")
}

// indent puts the progress of a step under its title.
type indent struct{ out io.Writer }

func (w indent) Write(p []byte) (int, error) {
	text := bytes.ReplaceAll(bytes.TrimSuffix(p, []byte("\n")), []byte("\n"), []byte("\n        "))
	if _, err := w.out.Write(append(append([]byte("        "), text...), '\n')); err != nil {
		return 0, err
	}
	return len(p), nil
}

// silence is how long nothing is printed before a pulse prints that work goes on.
const silence = 15 * time.Second

// pulse passes on what is written, and adds a line whenever nothing was written for a
// while, so that whoever waits sees that work goes on.
type pulse struct {
	mu    sync.Mutex
	out   io.Writer
	begun time.Time // of the silence
	timer *time.Timer
}

func newPulse(out io.Writer) *pulse {
	p := &pulse{out: out, begun: time.Now()}
	p.timer = time.AfterFunc(silence, p.beat)
	return p
}

func (p *pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "        still at it, %.0f s so far\n", time.Since(p.begun).Seconds())
	p.timer.Reset(silence)
}

func (p *pulse) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = time.Now()
	p.timer.Reset(silence)
	return p.out.Write(text)
}

func (p *pulse) stop() { p.timer.Stop() }
