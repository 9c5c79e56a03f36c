// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"golang.org/x/sys/unix"
)

// floor is a contestant that is no plugin: a process that runs already and
// knows everything sends the requests that change something, and does nothing
// else. What it takes is the kernel's, and no plugin takes less.
type floor struct {
	*bench
	pod         *link.Conn
	podNS, home *os.File
	pfIndex     int
	was         link.Link // the VF's interface
	want, undo  vfstate.State
}

// floorLabel is what reports call it.
const floorLabel = "kernel floor"

func (b *bench) newFloor(p pod, want vfstate.State) (f *floor, err error) {
	f = &floor{bench: b}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.podNS, err = os.Open("/run/netns/" + string(p)); err != nil {
		return nil, err
	}
	if f.home, err = os.Open("/proc/self/ns/net"); err != nil {
		return nil, err
	}
	if f.pod, err = link.Open(f.podNS); err != nil {
		return nil, err
	}
	pf, err := b.c.ByParent(b.pf.Address)
	if err != nil {
		return nil, err
	}
	f.pfIndex = pf.Index
	if f.was, err = b.c.ByParent(b.vf.Address); err != nil {
		return nil, err
	}
	have, err := b.c.VFState(f.pfIndex, b.vf.Index)
	if err != nil {
		return nil, err
	}
	f.want = vfstate.Diff(have, want)
	f.undo = only(have, f.want)
	return f, nil
}

// only is the part of a state that another one sets, too. To set the former MAC
// again would keep the VF from ever choosing another: the PF lets go of it.
func only(s, set vfstate.State) vfstate.State {
	out := vfstate.State{}
	if set.MAC != nil {
		out.MAC = make([]byte, len(set.MAC))
	}
	if set.VLAN != nil {
		out.VLAN = s.VLAN
	}
	if set.SpoofCheck != vfstate.Unset {
		out.SpoofCheck = s.SpoofCheck
	}
	if set.Trust != vfstate.Unset {
		out.Trust = s.Trust
	}
	return out
}

func (f *floor) close() {
	if f.pod != nil {
		f.pod.Close()
	}
	f.podNS.Close() // of nil it does nothing
	f.home.Close()
}

// add gives the VF to the pod, in the order that igb needs.
func (f *floor) add() error {
	if f.want.MAC != nil {
		if err := f.c.Set(f.was.Index, link.Update{MAC: f.want.MAC}); err != nil {
			return err
		}
	}
	if err := f.c.SetVF(f.pfIndex, f.vf.Index, f.want); err != nil {
		return err
	}
	if err := f.c.Set(f.was.Index, link.Update{NetNS: f.podNS, Name: "net1"}); err != nil {
		return err
	}
	return f.pod.SetUp("net1", true)
}

// del takes it back as it was.
func (f *floor) del() error {
	u := link.Update{NetNS: f.home, NewIndex: f.was.Index, Name: f.was.Name}
	if f.want.MAC != nil {
		u.MAC = f.was.MAC
	}
	return errors.Join(f.c.SetVF(f.pfIndex, f.vf.Index, f.undo), f.pod.Set(f.was.Index, u))
}

// runFloor attaches the VF to a new pod and takes it back.
func (b *bench) runFloor(podName string, want vfstate.State, to *result) error {
	p, err := newPod(podName)
	if err != nil {
		return err
	}
	f, err := b.newFloor(p, want)
	if err != nil {
		return errors.Join(err, p.end())
	}
	for _, step := range []struct {
		command string
		work    func() error
	}{{"ADD", f.add}, {"DEL", f.del}} {
		sent := b.c.Requests() + f.pod.Requests()
		c, workErr := timed(step.work)
		if workErr != nil {
			err = errors.Join(err, fmt.Errorf("%s, %s: %w", floorLabel, step.command, workErr))
			continue
		}
		to.add(step.command, c)
		to.of(step.command).Requests = b.c.Requests() + f.pod.Requests() - sent
	}
	f.close()
	return errors.Join(err, p.end())
}

// timed is run1 for work of this process.
func timed(work func() error) (c cost, err error) {
	runtime.LockOSThread() // whose CPU time is asked for
	defer runtime.UnlockOSThread()
	var before, after unix.Rusage
	err = unix.Getrusage(unix.RUSAGE_THREAD, &before)
	start := time.Now()
	err = errors.Join(err, work())
	c.Wall = time.Since(start)
	err = errors.Join(err, unix.Getrusage(unix.RUSAGE_THREAD, &after))
	c.CPU = time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	return c, err
}
