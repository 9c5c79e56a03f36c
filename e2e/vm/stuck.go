// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ErrFrozen: the agent does not answer any more, nor does anything else in the node.
var ErrFrozen = errors.New("the node is frozen")

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
		for _, line := range []string{"info status", "info registers -a"} {
			result, err := v.monitor.ask("human-monitor-command", map[string]any{"command-line": line})
			if err != nil {
				fmt.Fprintf(&text, "%v\n", err)
				return text.String()
			}
			var printed string
			if err := json.Unmarshal(result, &printed); err != nil {
				fmt.Fprintf(&text, "%v: %s\n", err, result)
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
