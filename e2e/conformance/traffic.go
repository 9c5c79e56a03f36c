// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/netns"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
)

const (
	// etherType is for local experiments (IEEE 802, 0x88b5).
	etherType = 0x88b5
	// arriveWithin is for frames that should, after a NIC has begun to work;
	// stayAwayFor is for those that should not.
	arriveWithin = 30 * time.Second
	stayAwayFor  = 2 * time.Second
)

// pod is a network namespace with nothing in it.
type pod struct {
	file  *os.File
	links *link.Conn
}

func newPod() (*pod, error) {
	p := &pod{}
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends, the namespace stays as long as file
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			p.file, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	var err error
	p.links, err = link.Open(p.file)
	return p, err
}

// path is one that other processes can open.
func (p *pod) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.file.Fd()) }

// close ends the namespace. It may be called again.
func (p *pod) close() {
	if p.file != nil {
		p.links.Close()
		p.file.Close()
		p.file = nil
	}
}

// port is a VF in a namespace of its own, with a socket for raw frames.
type port struct {
	*pod
	link   link.Link
	socket int
}

// newPort moves a VF to a new namespace and sets it up. home is where it belongs.
func (k *Kit) newPort(ctx context.Context, vf libsriov.Address) (p *port, err error) {
	p = &port{socket: -1}
	was, err := k.links.ByParent(vf)
	if err != nil {
		return nil, err
	}
	if p.pod, err = newPod(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if err := k.links.Set(was.Index, link.Update{NetNS: p.file}); err != nil {
		return nil, err
	}
	if p.link, err = p.links.ByParent(vf); err != nil {
		return nil, err
	}
	if err := until(ctx, arriveWithin, func() error { return p.links.Set(p.link.Index, link.Update{Up: new(true)}) }); err != nil {
		return nil, err
	}
	err = netns.Within(p.file, func() error {
		p.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		return unix.Bind(p.socket, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: p.link.Index})
	})
	return p, err
}

func (p *port) close() {
	if p.socket >= 0 {
		unix.Close(p.socket)
		p.socket = -1
	}
	p.pod.close()
}

// mac is the address of the VF as it is now: a NIC may have changed it.
func (p *port) mac() (net.HardwareAddr, error) {
	l, err := p.links.ByIndex(p.link.Index)
	return l.MAC, err
}

// frame is one to a VF with a payload that no other has.
func (p *port) frame(to *port, source net.HardwareAddr) (frame, payload []byte, err error) {
	destination, err := to.mac()
	if err != nil {
		return nil, nil, err
	}
	if source == nil {
		if source, err = p.mac(); err != nil {
			return nil, nil, err
		}
	}
	payload = make([]byte, 64)
	rand.Read(payload)
	frame = append(append(append(frame, destination...), source...), etherType>>8, etherType&0xff)
	return append(frame, payload...), payload, nil
}

// reach sends frames from one VF to the other until one arrives or the time is over. A
// nil source is the VF's own address.
func reach(ctx context.Context, from, to *port, source net.HardwareAddr, limit time.Duration) (bool, error) {
	frame, payload, err := from.frame(to, source)
	if err != nil {
		return false, err
	}
	err = until(ctx, limit, func() error {
		err := unix.Sendto(from.socket, frame, 0, &unix.SockaddrLinklayer{Ifindex: from.link.Index, Halen: 6, Addr: [8]byte(append(frame[:6:6], 0, 0))})
		if err != nil && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		if !to.received(payload) {
			return errNothing
		}
		return nil
	})
	if errors.Is(err, errNothing) && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

var errNothing = errors.New("no frame has arrived")

// received reports whether a frame with the payload is among those that have arrived,
// with whatever tag.
func (p *port) received(payload []byte) bool {
	buffer := make([]byte, 2048)
	for {
		n, _, err := unix.Recvfrom(p.socket, buffer, 0)
		if err != nil {
			return false
		}
		if bytes.Contains(buffer[:n], payload) {
			return true
		}
	}
}

// pair is two VFs that reach each other.
func (k *Kit) pair(ctx context.Context) (a, b *port, done func(), err error) {
	if a, err = k.newPort(ctx, k.pf.VFs[0].Address); err != nil {
		return nil, nil, nil, err
	}
	if b, err = k.newPort(ctx, k.pf.VFs[1].Address); err != nil {
		a.close()
		return nil, nil, nil, err
	}
	done = func() { a.close(); b.close() }
	ok, err := reach(ctx, a, b, nil, arriveWithin)
	if err == nil && !ok {
		err = fmt.Errorf("VF 0 does not reach VF 1 of the same PF within %s", arriveWithin)
	}
	if err != nil {
		done()
		return nil, nil, nil, err
	}
	return a, b, done, nil
}

// step is a state of two VFs, and whether one reaches the other in it.
type step struct {
	what    string
	set     func(ctx context.Context) error
	source  net.HardwareAddr
	arrives bool
}

// walk takes two VFs through steps. What should not arrive is tried only after a step in
// which it did, and is followed by one in which it does: so silence means what it says.
func walk(ctx context.Context, a, b *port, steps []step) error {
	for _, s := range steps {
		if err := s.set(ctx); err != nil {
			return err
		}
		limit := arriveWithin
		if !s.arrives {
			limit = stayAwayFor
		}
		arrived, err := reach(ctx, a, b, s.source, limit)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", s.what, err)
		case arrived && !s.arrives:
			return fmt.Errorf("%s: frames arrive that should not", s.what)
		case !arrived && s.arrives:
			return fmt.Errorf("%s: no frame arrives within %s", s.what, limit)
		}
	}
	return nil
}

// tryVLANs puts two VFs into one VLAN and into two.
func (k *Kit) tryVLANs(ctx context.Context) error {
	a, b, done, err := k.pair(ctx)
	if err != nil {
		return err
	}
	defer done()
	vlans := func(ids ...uint16) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			for vf, id := range ids {
				if err := k.set(ctx, vf, vfstate.State{VLAN: &vfstate.VLAN{ID: id}}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return walk(ctx, a, b, []step{
		{"both in VLAN 100", vlans(100, 100), nil, true},
		{"one in VLAN 100, one in 200", vlans(100, 200), nil, false},
		{"both in VLAN 200", vlans(200, 200), nil, true},
		{"one in VLAN 200, one without", vlans(200, 0), nil, false},
		{"both without a VLAN", vlans(0, 0), nil, true},
	})
}

// trySpoofCheck sends frames with a foreign source address, with the check and without.
func (k *Kit) trySpoofCheck(ctx context.Context) error {
	a, b, done, err := k.pair(ctx)
	if err != nil {
		return err
	}
	defer done()
	foreign := net.HardwareAddr{2, 0, 0x88, 0xb5, 0xff, 1}
	spoof := func(s vfstate.Switch) func(ctx context.Context) error {
		return func(ctx context.Context) error { return k.set(ctx, 0, vfstate.State{SpoofCheck: s}) }
	}
	return walk(ctx, a, b, []step{
		{"spoof check off, foreign source", spoof(vfstate.Off), foreign, true},
		{"spoof check on, foreign source", spoof(vfstate.On), foreign, false},
		{"spoof check on, own source", spoof(vfstate.On), nil, true},
	})
}

func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}
