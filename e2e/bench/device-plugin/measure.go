// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sriovkit/sriovkit/e2e/bench/contest"
)

// cost is what a binary needs until it serves every pool.
type cost struct {
	Wall, CPU time.Duration
	RSS, Peak int64 // KiB: resident when all is served, and at most
	Calls     int   // system calls; 0 if they were not counted
	Runs      int
}

// slow is from when on a binary is run only once, and not under strace, which
// would take minutes.
const slow = 5 * time.Second

// patience bounds one run.
const patience = 2 * time.Minute

func (h *host) measure(ctx context.Context, b contest.Binary, count int) (cost, error) {
	var runs []cost
	for len(runs) < count {
		c, err := h.once(ctx, b.Path)
		if err != nil {
			return cost{}, err
		}
		runs = append(runs, c)
		if c.Wall > slow {
			break
		}
	}
	m := median(runs)
	if m.Wall < slow {
		var err error
		if m.Calls, err = h.countCalls(ctx, b.Path); err != nil {
			return cost{}, err
		}
	}
	return m, nil
}

func median(runs []cost) cost {
	return cost{
		Wall: contest.Median(runs, func(c cost) time.Duration { return c.Wall }),
		CPU:  contest.Median(runs, func(c cost) time.Duration { return c.CPU }),
		RSS:  contest.Median(runs, func(c cost) int64 { return c.RSS }),
		Peak: contest.Median(runs, func(c cost) int64 { return c.Peak }),
		Runs: len(runs),
	}
}

func clearRegistry() error {
	if err := os.RemoveAll(registry); err != nil {
		return err
	}
	return os.MkdirAll(registry, 0o755)
}

// once runs a binary until it serves every pool.
func (h *host) once(ctx context.Context, program ...string) (cost, error) {
	if err := clearRegistry(); err != nil {
		return cost{}, err
	}
	p, err := h.start(ctx, program, nil)
	if err != nil {
		return cost{}, err
	}
	defer p.stop()
	if err := h.await(ctx, h.Pools, p); err != nil {
		return cost{}, err
	}
	c := cost{Wall: time.Since(p.began)}
	if err := c.readMemory(p.pid()); err != nil {
		return cost{}, err
	}
	c.CPU, err = cpuTime(p.pid())
	return c, err
}

// process is a binary at work.
type process struct {
	cmd   *exec.Cmd
	log   string
	began time.Time
	ended chan struct{}
}

// start runs a program, whose own arguments come first.
func (h *host) start(ctx context.Context, program, args []string) (*process, error) {
	log, err := os.CreateTemp(h.dir, "log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	args = slices.Concat(program[1:], []string{"-config-file", h.config, "-logtostderr"}, args)
	p := &process{cmd: exec.CommandContext(ctx, program[0], args...), log: log.Name(), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), "PCIDB_PATH=") // no private database
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // its state says how it ended
	}()
	return p, nil
}

// await returns when so many pools are served.
func (h *host) await(ctx context.Context, pools int, by ...*process) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !served(pools) {
		for _, p := range by {
			select {
			case <-p.ended:
				return fmt.Errorf("ended before it served all pools (%s); its output is:\n%s", p.cmd.ProcessState, tail(p.log))
			default:
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not all pools are served; the output of the last binary ends:\n%s", tail(by[len(by)-1].log))
		case <-time.After(200 * time.Microsecond):
		}
	}
	return nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process, and says how long that took.
func (p *process) stop() time.Duration {
	began := time.Now()
	select {
	case <-p.ended:
	default:
		stop(p.pid())
	}
	<-p.ended
	return time.Since(began)
}

// stop asks a process to end; of strace, which would leave its child running,
// the child, after which strace ends by itself.
func stop(pid int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid)) // without children: the process itself
	for _, child := range strings.Fields(string(text)) {
		pid, _ = strconv.Atoi(child) // the kernel writes numbers
	}
	_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended, which is as good
}

// served reports whether every pool's socket accepts connections.
func served(pools int) bool {
	entries, err := os.ReadDir(registry)
	if err != nil || len(entries) < pools {
		return false
	}
	for _, e := range entries {
		c, err := net.Dial("unix", filepath.Join(registry, e.Name()))
		if err != nil {
			return false
		}
		_ = c.Close()
	}
	return true
}

func (c *cost) readMemory(pid int) error {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(fields[1], 10, 64) // other lines are no numbers
		switch fields[0] {
		case "VmRSS:":
			c.RSS = n
		case "VmHWM:":
			c.Peak = n
		}
	}
	return nil
}

// cpuTime adds up a process's threads, which the scheduler accounts for in
// nanoseconds.
func cpuTime(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		return 0, fmt.Errorf("CPU time of process %d: no schedstat", pid)
	}
	var sum time.Duration
	for _, t := range threads {
		text, err := os.ReadFile(t)
		if err != nil {
			continue // it ended
		}
		running, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(running, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// countCalls runs a binary once more, under strace.
func (h *host) countCalls(ctx context.Context, path string) (int, error) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return 0, nil
	}
	out := filepath.Join(h.dir, "calls")
	if _, err := h.once(ctx, strace, "-f", "-c", "-U", "calls,name", "-o", out, path); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return 0, err
	}
	total := 0
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[1] == "total" {
			total, err = strconv.Atoi(fields[0])
		}
	}
	return total, err
}

func tail(path string) string {
	const most = 2000
	text, _ := os.ReadFile(path) // for a message only
	return string(text[max(0, len(text)-most):])
}
