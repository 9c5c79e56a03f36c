// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"time"
)

// monitorTimeout bounds one command of QEMU's monitor; they take milliseconds.
const monitorTimeout = 30 * time.Second

// monitor controls the hardware from outside, see
// https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html.
type monitor struct {
	conn    net.Conn
	decoder *json.Decoder
	greeted bool
}

func newMonitor(file *os.File) (*monitor, error) {
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return &monitor{conn: conn, decoder: json.NewDecoder(conn)}, nil
}

// do runs a command and waits for its end and for events that it causes.
func (m *monitor) do(command string, arguments map[string]any, events ...string) error {
	_, err := m.ask(command, arguments, events...)
	return err
}

// ask is do for a command whose result is wanted.
func (m *monitor) ask(command string, arguments map[string]any, events ...string) (result json.RawMessage, err error) {
	if err := m.conn.SetDeadline(time.Now().Add(monitorTimeout)); err != nil {
		return nil, err
	}
	if !m.greeted {
		m.greeted = true
		if err := m.do("qmp_capabilities", nil); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(struct {
		Execute   string         `json:"execute"`
		Arguments map[string]any `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return nil, err
	}
	if _, err := m.conn.Write(text); err != nil {
		return nil, fmt.Errorf("QEMU monitor: %s: %w", command, err)
	}
	for done := false; !done || len(events) > 0; {
		var r struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
			Event  string
		}
		switch err := m.decoder.Decode(&r); {
		case err != nil:
			return nil, fmt.Errorf("QEMU monitor: %s: %w", command, err)
		case r.Error != nil:
			return nil, fmt.Errorf("QEMU monitor: %s: %s", command, r.Error.Desc)
		case r.Return != nil:
			result, done = r.Return, true
		}
		events = slices.DeleteFunc(events, func(e string) bool { return e == r.Event })
	}
	return result, nil
}

// human runs a command of the monitor for people and returns what it prints.
func (m *monitor) human(line string) (string, error) {
	result, err := m.ask("human-monitor-command", map[string]any{"command-line": line})
	if err != nil {
		return "", err
	}
	var text string
	if err := json.Unmarshal(result, &text); err != nil {
		return "", fmt.Errorf("QEMU monitor: %s: %w", line, err)
	}
	return text, nil
}

// SetLink pulls the cable of a PF, by its number from 0, or plugs it in.
func (v *VM) SetLink(pf int, up bool) error {
	v.monitorLock.Lock()
	defer v.monitorLock.Unlock()
	return v.monitor.do("set_link", map[string]any{"name": nicID(pf), "up": up})
}

// PowerCycle takes the power away at once, as far as programs and kernel can
// tell, and boots the node again with the disk that it had. What was written is
// on that disk: file systems are synchronised first. Nothing may run commands
// meanwhile.
func (v *VM) PowerCycle(ctx context.Context) error {
	v.monitorLock.Lock()
	defer v.monitorLock.Unlock()
	begun := time.Now()
	// The disk has no journal: remounting it read only (u) leaves it clean.
	if _, err := v.Output(ctx, "sh", "-ec", "sync; echo u >/proc/sysrq-trigger; while grep -q ' / ext4 rw' /proc/mounts; do sleep 0.1; done"); err != nil {
		return err
	}
	if err := v.reset(); err != nil {
		return err
	}
	if err := v.meet(ctx); err != nil {
		return fmt.Errorf("boot %s again: %w", v.Name, err)
	}
	if err := v.monitor.do("set-action", map[string]any{"reboot": "shutdown"}); err != nil {
		return err
	}
	fmt.Fprintf(v.config.Log, "%s: up again after %.1fs\n", v.Name, time.Since(begun).Seconds())
	return nil
}

// reset ends the conversation with the agent and resets the machine, which stands
// still meanwhile, so that the agent does not see its port go.
func (v *VM) reset() error {
	if err := v.monitor.do("stop", nil); err != nil {
		return err
	}
	v.client.Close() // its other end has stopped
	// Otherwise a reset is the end, as a panic of the kernel shall be. The firmware
	// resets once more, so it stays so until the agent answers.
	if err := v.monitor.do("set-action", map[string]any{"reboot": "reset"}); err != nil {
		return err
	}
	if err := v.monitor.do("system_reset", nil, "RESET"); err != nil {
		return err
	}
	return v.monitor.do("cont", nil)
}
