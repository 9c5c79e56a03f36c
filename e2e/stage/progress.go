// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// every is the time between two lines about the same step.
const every = 15 * time.Second

// progress prints what a build does and for how long: a line when a step begins, one every 15
// seconds, one at the end.
type progress struct {
	out   io.Writer
	name  string
	begun time.Time
	done  chan struct{}
	wg    sync.WaitGroup

	mu   sync.Mutex
	text string
}

func newProgress(out io.Writer, name string) *progress {
	p := &progress{out: out, name: name, begun: time.Now(), done: make(chan struct{})}
	p.step("building")
	p.wg.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				p.mu.Lock()
				fmt.Fprintf(p.out, "%s: %s, %s so far\n", p.name, p.text, p.elapsed())
				p.mu.Unlock()
			case <-p.done:
				return
			}
		}
	})
	return p
}

func (p *progress) step(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = text
	fmt.Fprintf(p.out, "%s: %s\n", p.name, text)
}

func (p *progress) stop(err error) {
	close(p.done)
	p.wg.Wait()
	if err != nil {
		fmt.Fprintf(p.out, "%s: not built, gave up after %s\n", p.name, p.elapsed())
		return
	}
	fmt.Fprintf(p.out, "%s: ready after %s\n", p.name, p.elapsed())
}

func (p *progress) elapsed() time.Duration { return time.Since(p.begun).Round(100 * time.Millisecond) }
