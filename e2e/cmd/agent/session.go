// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
)

// session runs one command (RFC 4254 section 6). The command leads a process
// group of its own, which gets the signals, and which is killed if the client
// goes away before the command has ended.
type session struct {
	channel ssh.Channel
	env     []string
	window  *pty.Winsize // set if the client asked for a terminal

	mu       sync.Mutex
	cmd      *exec.Cmd // nil before the start
	ended    bool
	terminal *os.File
}

func (s *session) run(requests <-chan *ssh.Request) {
	for req := range requests {
		err := s.handle(req)
		if err != nil {
			fmt.Fprintf(s.channel.Stderr(), "agent: %v\r\n", err)
		}
		if req.WantReply {
			req.Reply(err == nil, nil) //nolint:errcheck // the loop ends when the peer is gone
		}
	}
	s.signal(syscall.SIGKILL) // the client closed the session
}

func (s *session) handle(req *ssh.Request) error {
	switch req.Type {
	case "env":
		var kv struct{ Name, Value string }
		if err := ssh.Unmarshal(req.Payload, &kv); err != nil {
			return err
		}
		s.env = append(s.env, kv.Name+"="+kv.Value)
		return nil
	case "pty-req":
		var p struct {
			Term                      string
			Cols, Rows, Width, Height uint32
			Modes                     string
		}
		if err := ssh.Unmarshal(req.Payload, &p); err != nil {
			return err
		}
		s.env = append(s.env, "TERM="+p.Term)
		s.window = &pty.Winsize{Rows: uint16(p.Rows), Cols: uint16(p.Cols)}
		return nil
	case "window-change":
		var w struct{ Cols, Rows, Width, Height uint32 }
		if err := ssh.Unmarshal(req.Payload, &w); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.terminal == nil {
			return errors.New("window change without a terminal")
		}
		return pty.Setsize(s.terminal, &pty.Winsize{Rows: uint16(w.Rows), Cols: uint16(w.Cols)})
	case "signal":
		var sig struct{ Name string }
		if err := ssh.Unmarshal(req.Payload, &sig); err != nil {
			return err
		}
		number, ok := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[sig.Name]
		if !ok {
			return fmt.Errorf("signal %q: only INT, TERM and KILL", sig.Name)
		}
		s.signal(number)
		return nil
	case "shell":
		return s.start(exec.Command("/bin/bash", "--login"))
	case "exec":
		var c struct{ Line string }
		if err := ssh.Unmarshal(req.Payload, &c); err != nil {
			return err
		}
		return s.start(exec.Command("/bin/sh", "-c", c.Line))
	}
	return fmt.Errorf("request %q is not supported", req.Type)
}

// start starts the command; a goroutine reports its exit status and closes the
// session.
func (s *session) start(cmd *exec.Cmd) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return errors.New("one command per session")
	}
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Dir = "/root"
	cmd.WaitDelay = time.Second // for output pipes a background child keeps open
	var copied sync.WaitGroup
	if s.window != nil {
		terminal, err := pty.StartWithSize(cmd, s.window)
		if err != nil {
			return err
		}
		s.terminal = terminal
		go io.Copy(terminal, s.channel)                    //nolint:errcheck // ends with the session
		copied.Go(func() { io.Copy(s.channel, terminal) }) //nolint:errcheck // EIO at the end of a terminal
	} else {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Stdout, cmd.Stderr = s.channel, s.channel.Stderr()
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		go func() {
			io.Copy(stdin, s.channel) //nolint:errcheck // the command need not read its input
			stdin.Close()
		}()
	}
	s.cmd = cmd
	go func() {
		err := cmd.Wait()
		copied.Wait()
		s.report(err)
	}()
	return nil
}

// report sends the exit status; a signal counts as 128 plus its number, as in a
// shell.
func (s *session) report(err error) {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	status := uint32(0)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		ws := exit.Sys().(syscall.WaitStatus)
		status = uint32(ws.ExitStatus())
		if ws.Signaled() {
			status = 128 + uint32(ws.Signal())
		}
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		fmt.Fprintf(s.channel.Stderr(), "agent: %v\n", err)
		status = 255
	}
	s.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status})) //nolint:errcheck // the peer may be gone
	s.channel.Close()
}

func (s *session) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil && !s.ended {
		syscall.Kill(-s.cmd.Process.Pid, sig) //nolint:errcheck // gone already is fine
	}
}
