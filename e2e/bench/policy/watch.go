// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/process"
)

// watch is a kubectl that prints an object's fields whenever it changes.
type watch struct {
	events chan event
	seen   []event
}

type event struct {
	at     time.Time
	fields []string
}

func (b *bench) watch(ctx context.Context, kind, fields string) (*watch, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(b.Programs, "kubectl"), "get", kind, "node1", "-n", component.Namespace, "-w", "-o", "jsonpath="+fields+`{"\n"}`)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+b.Kubeconfig)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(cmd, b.Netns().File); err != nil {
		return nil, err
	}
	w := &watch{events: make(chan event, 1000)}
	go func() {
		defer close(w.events)
		for in := bufio.NewScanner(out); in.Scan(); {
			w.events <- event{time.Now(), strings.Split(in.Text(), "|")}
		}
		if err := cmd.Wait(); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "watch:", err, stderr.String())
		}
	}()
	return w, nil
}

// since waits for fields that match, and tells when they first did after begun.
func (w *watch) since(ctx context.Context, begun time.Time, match func(fields []string) bool) (time.Time, error) {
	for i := 0; ; i++ {
		if i == len(w.seen) {
			select {
			case e, open := <-w.events:
				if !open {
					return time.Time{}, fmt.Errorf("the watch has ended")
				}
				w.seen = append(w.seen, e)
			case <-ctx.Done():
				return time.Time{}, fmt.Errorf("%w; seen so far: %v", context.Cause(ctx), w.seen)
			}
		}
		if e := w.seen[i]; e.at.After(begun) && match(e.fields) {
			return e.at, nil
		}
	}
}
