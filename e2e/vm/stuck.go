// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// ErrFrozen: the agent does not answer any more, nor does anything else in the node.
var ErrFrozen = errors.New("the node is frozen")

// keepAwake asks the agent for an answer every five seconds, for which it runs on each
// processor of the node. If none comes, it looks whether a processor is dead; commands on
// the node then end with ErrFrozen.
func (v *VM) keepAwake(client *ssh.Client) {
	answered := make(chan error, 1)
	for {
		go func() {
			_, _, err := client.SendRequest("keepalive", true, nil)
			answered <- err
		}()
		for waiting := true; waiting; {
			select {
			case err := <-answered:
				if err != nil {
					return
				}
				waiting = false
			case <-time.After(30 * time.Second):
				if state, dead := v.deadProcessor(); dead {
					v.console.fail(fmt.Errorf("%w: a processor takes no interrupts:\n%s", ErrFrozen, state))
					return
				}
			}
		}
		time.Sleep(5 * time.Second)
	}
}

// deadProcessor reports a processor that is halted in the middle of an interrupt. No handler
// halts: QEMU (seen with 10.0.2, on a busy host) has taken an interrupt from the local APIC
// and not run its handler, so that the APIC waits for its end for ever.
func (v *VM) deadProcessor() (state string, dead bool) {
	v.monitorLock.Lock()
	defer v.monitorLock.Unlock()
	for cpu := range v.config.CPUs {
		apic, err := v.monitor.human(fmt.Sprintf("info lapic %d", cpu))
		if err != nil {
			return "", false
		}
		registers, err := v.monitor.human("info registers -a")
		if err != nil {
			return "", false
		}
		if inService(apic) && halted(registers, cpu) {
			return apic, true
		}
	}
	return "", false
}

// inService reports whether an APIC, as QEMU's "info lapic" prints it, waits for the end
// of an interrupt.
func inService(apic string) bool {
	for line := range strings.Lines(apic) {
		if vectors, ok := strings.CutPrefix(line, "ISR"); ok {
			return strings.TrimSpace(vectors) != "(none)"
		}
	}
	return false
}

// halted reports whether a processor is, in what QEMU's "info registers -a" prints.
func halted(registers string, cpu int) bool {
	_, mine, _ := strings.Cut(registers, fmt.Sprintf("CPU#%d", cpu))
	mine, _, _ = strings.Cut(mine, "CPU#")
	return strings.Contains(mine, "HLT=1")
}

// answerTimeout is many times what the agent takes to answer on a busy machine.
const answerTimeout = 2 * time.Minute

// blocked lists the threads that sleep and cannot be interrupted, with where they are in
// the kernel, and has the kernel print the same on the console.
const blocked = `echo w >/proc/sysrq-trigger
for t in /proc/[0-9]*/task/[0-9]*; do
	read -r _ _ state _ <$t/stat && [ "$state" = D ] && echo "$t $(cat $t/comm)" && cat $t/stack
done 2>/dev/null; true`

// Stuck is for a command that ought to have ended: it says what the node does instead. The
// error is ErrFrozen if the node does not answer; the text then says what can be seen
// from outside. Afterwards the node is of no use but to be closed.
func (v *VM) Stuck(ctx context.Context) (string, error) {
	answer, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	out, err := v.Output(answer, "sh", "-c", blocked)
	if err == nil {
		return "the node answers; threads that cannot be interrupted:\n" + out + v.Trouble(), nil
	}
	text := fmt.Sprintf("%v\n%s\n%s", err, v.threads(), v.outside())
	// The kernel has unknown_nmi_panic: if it can run at all, it says where it was.
	v.monitorLock.Lock()
	_, err = v.monitor.ask("inject-nmi", nil)
	v.monitorLock.Unlock()
	if err == nil {
		select {
		case <-v.console.fatal:
		case <-v.exited:
		case <-time.After(10 * time.Second):
		}
	}
	return text + v.Trouble(), ErrFrozen
}

// outside asks QEMU where its processors are, twice, to tell a loop from a standstill.
func (v *VM) outside() string {
	v.monitorLock.Lock()
	defer v.monitorLock.Unlock()
	var text strings.Builder
	for range 2 {
		lines := []string{"info status", "info registers -a"}
		for cpu := range v.config.CPUs {
			lines = append(lines, fmt.Sprintf("info lapic %d", cpu))
		}
		for _, line := range lines {
			printed, err := v.monitor.human(line)
			if err != nil {
				fmt.Fprintf(&text, "%v\n", err)
				return text.String()
			}
			text.WriteString(printed)
		}
		time.Sleep(time.Second)
	}
	return text.String()
}

// threads is what QEMU's threads do, as far as this machine's kernel says.
func (v *VM) threads() string {
	var text strings.Builder
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", v.qemu.Process.Pid)) // the pattern is right
	for _, task := range tasks {
		for _, file := range []string{"comm", "wchan", "syscall", "schedstat"} {
			value, err := os.ReadFile(filepath.Join(task, file))
			if err != nil {
				value = []byte(err.Error())
			}
			fmt.Fprintf(&text, "%s=%s ", file, strings.TrimSpace(string(value)))
		}
		text.WriteByte('\n')
	}
	return text.String()
}
