// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// portName is given to the serial port by the harness.
const portName = "agent"

// serve answers on the serial port until the other end is gone.
func serve() error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return err
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)

	port, err := openPort()
	if err != nil {
		return err
	}
	conn, channels, requests, err := ssh.NewServerConn(portConn{port}, config)
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	defer conn.Close()
	go keepAwake(requests)
	for c := range channels {
		if c.ChannelType() != "session" {
			c.Reject(ssh.UnknownChannelType, "only sessions") //nolint:errcheck // the peer is gone if this fails
			continue
		}
		channel, requests, err := c.Accept()
		if err != nil {
			return err
		}
		go (&session{channel: channel}).run(requests)
	}
	return errors.New("the harness closed the port")
}

// keepAwake answers the harness, which asks every few seconds, by running on each processor
// for a moment. QEMU can lose the interrupt of a processor's timer: an idle one then sleeps,
// and with it all timers of programs that it keeps, until something wakes it. Linux sets the
// timer again when a processor ends to be idle (tick_nohz_idle_exit).
func keepAwake(requests <-chan *ssh.Request) {
	runtime.LockOSThread()
	for r := range requests {
		for cpu := range runtime.NumCPU() {
			var one unix.CPUSet
			one.Set(cpu)
			unix.SchedSetaffinity(0, &one) //nolint:errcheck // a processor that is not there needs no waking
		}
		r.Reply(true, nil) //nolint:errcheck // the loop ends when the peer is gone
	}
}

// openPort opens the virtio serial port of the harness.
func openPort() (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, file := range names {
		name, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(string(name)) == portName {
			return os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(file))), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("no virtio serial port is named %q", portName)
}

// portConn is a serial port as a connection. Deadlines are not needed: the port
// lives as long as the node.
type portConn struct{ *os.File }

func (portConn) LocalAddr() net.Addr              { return portAddr{} }
func (portConn) RemoteAddr() net.Addr             { return portAddr{} }
func (portConn) SetDeadline(time.Time) error      { return nil }
func (portConn) SetReadDeadline(time.Time) error  { return nil }
func (portConn) SetWriteDeadline(time.Time) error { return nil }

type portAddr struct{}

func (portAddr) Network() string { return "virtio" }
func (portAddr) String() string  { return portName }
