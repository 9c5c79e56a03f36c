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
	// arriveWithin is for frames that should, after a NIC has begun to work.
	arriveWithin = 30 * time.Second
	// sendFor is how long those are sent that should not arrive. What of them is only late
	// is noticed with the next step, whose frames do arrive.
	sendFor = 500 * time.Millisecond
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
	barred map[string]string // payloads that must not arrive, and the steps that sent them
	leak   string            // the step of one that did
}

// newPort moves a VF to a new namespace and sets it up. home is where it belongs.
func (k *Kit) newPort(ctx context.Context, vf libsriov.Address) (p *port, err error) {
	p = &port{socket: -1, barred: map[string]string{}}
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

// awaitCarrier waits for the VF's link.
func (p *port) awaitCarrier(ctx context.Context, limit time.Duration) error {
	return until(ctx, limit, func() error {
		l, err := p.links.ByIndex(p.link.Index)
		if err == nil && !l.Carrier() {
			err = fmt.Errorf("interface %s of a VF has no carrier", l.Name)
		}
		return err
	})
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

// way is a direction in which frames are sent, from one VF to another. Their source
// address is the sender's own, unless another is given.
type way struct {
	from, to *port
	source   net.HardwareAddr

	frame, payload []byte
	arrived        bool
}

var errNothing = errors.New("no frame has arrived")

// send sends frames all ways until one of each has arrived or the time is over. Payloads of
// those that have not are to be barred as the step's, unless that is empty.
func send(ctx context.Context, limit time.Duration, barred string, ways ...*way) (err error) {
	for _, w := range ways {
		if w.frame, w.payload, err = w.from.frame(w.to, w.source); err != nil {
			return err
		}
		if barred != "" {
			w.to.barred[string(w.payload)] = barred
		}
	}
	err = until(ctx, limit, func() error {
		var missing error
		for _, w := range ways {
			if w.arrived {
				continue
			}
			err := unix.Sendto(w.from.socket, w.frame, 0, &unix.SockaddrLinklayer{Ifindex: w.from.link.Index, Halen: 6, Addr: [8]byte(append(w.frame[:6:6], 0, 0))})
			if err != nil && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
				return final{err}
			}
			if w.arrived = w.to.received(w.payload); !w.arrived {
				missing = errNothing
			}
		}
		return missing
	})
	if errors.Is(err, errNothing) && ctx.Err() == nil {
		return nil
	}
	return err
}

// received reports whether a frame with the payload is among those that have arrived,
// with whatever tag. It also notes what should not have.
func (p *port) received(payload []byte) (found bool) {
	buffer := make([]byte, 2048)
	for {
		n, _, err := unix.Recvfrom(p.socket, buffer, 0)
		if err != nil {
			return found
		}
		found = found || bytes.Contains(buffer[:n], payload)
		for barred, step := range p.barred {
			if bytes.Contains(buffer[:n], []byte(barred)) {
				p.leak = step
			}
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
	there, back := &way{from: a, to: b}, &way{from: b, to: a}
	err = send(ctx, arriveWithin, "", there, back)
	if err == nil && (!there.arrived || !back.arrived) {
		err = fmt.Errorf("VFs 0 and 1 of the same PF do not reach each other within %s", arriveWithin)
	}
	if err != nil {
		done()
		return nil, nil, nil, err
	}
	return a, b, done, nil
}

// step is a state of two VFs, and whether frames arrive in it: both ways or, with a source,
// from the first VF to the second with that source address.
type step struct {
	what    string
	set     func(ctx context.Context) error
	source  net.HardwareAddr
	arrives bool
}

// walk takes two VFs through steps. Frames that should not arrive are sent only after a step
// in which frames arrived, and before another in which they do: that nothing arrives then
// shows that the NIC keeps them out, not that a link is down.
func (k *Kit) walk(ctx context.Context, a, b *port, steps []step) error {
	for _, s := range steps {
		if err := s.set(ctx); err != nil {
			return err
		}
		ways := []*way{{from: a, to: b, source: s.source}}
		if s.source == nil {
			ways = append(ways, &way{from: b, to: a})
		}
		limit, barred := k.Patience, ""
		var err error
		if !s.arrives { // a VF in reset has no carrier: that nothing arrives would prove nothing
			limit, barred = sendFor, s.what
			err = errors.Join(a.awaitCarrier(ctx, k.Patience), b.awaitCarrier(ctx, k.Patience))
		}
		if err == nil {
			err = send(ctx, limit, barred, ways...)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
		for _, w := range ways {
			switch {
			case w.to.leak != "":
				return fmt.Errorf("%s: frames arrive that should not", w.to.leak)
			case s.arrives && !w.arrived:
				return fmt.Errorf("%s: no frame arrives within %s", s.what, limit)
			}
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
	return k.walk(ctx, a, b, []step{
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
	return k.walk(ctx, a, b, []step{
		{"spoof check off, foreign source", spoof(vfstate.Off), foreign, true},
		{"spoof check on, foreign source", spoof(vfstate.On), foreign, false},
		{"spoof check on, own source", spoof(vfstate.On), nil, true},
	})
}

func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}
