// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/bench/contest"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
)

// bench is the node with the one VF that everything happens on.
type bench struct {
	host *libsriov.Host
	c    *link.Conn
	pf   libsriov.PF
	vf   libsriov.VF
}

// measure is the part that runs on the node; it prints a report as JSON.
func measure(ctx context.Context, text string) error {
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	var b bench
	var err error
	if b.host, err = libsriov.Open("/"); err != nil {
		return err
	}
	if b.c, err = link.Open(nil); err != nil {
		return err
	}
	snapshot, err := b.host.Snapshot()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(snapshot.PFs, func(p libsriov.PF) bool { return p.Driver == "igb" })
	if i < 0 {
		return errors.New("no igb PF")
	}
	b.pf = snapshot.PFs[i]
	l, err := b.c.ByParent(b.pf.Address)
	if err != nil {
		return err
	}
	if err := b.c.Set(l.Index, link.Update{Up: new(true)}); err != nil {
		return err
	}
	var r report
	for _, binary := range t.Binaries {
		r.Labels = append(r.Labels, binary.Label)
	}
	for _, conf := range configurations {
		if !strings.Contains(conf.name, t.Only) && conf.commands[0] != idle {
			continue
		}
		if err := b.freshVF(ctx); err != nil {
			return err
		}
		row, err := b.compare(ctx, t, conf)
		if err != nil {
			return err
		}
		r.Rows = append(r.Rows, row)
	}
	for _, add := range t.Binaries {
		for _, del := range t.Binaries {
			if len(t.Binaries) > 1 {
				if err := b.freshVF(ctx); err != nil {
					return err
				}
				r.Crossed = append(r.Crossed, crossing{Add: add.Label, Del: del.Label, Left: b.cross(add, del)})
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// freshVF makes the VF anew, so that no configuration inherits from another.
func (b *bench) freshVF(ctx context.Context) error {
	if err := os.RemoveAll("/var/lib/cni/sriov"); err != nil {
		return err
	}
	for _, n := range []int{0, 1} {
		if err := b.host.SetNumVFs(ctx, b.pf.Address, n); err != nil {
			return err
		}
	}
	pf, err := b.host.PF(b.pf.Address)
	if err != nil {
		return err
	}
	b.vf = pf.VFs[0]
	return nil
}

// compare runs a configuration with each binary in turns.
func (b *bench) compare(ctx context.Context, t task, conf configuration) (row, error) {
	r := row{Name: conf.name, Results: make([]result, len(t.Binaries)), Commands: conf.commands}
	if conf.floor != nil {
		r.Floor = &result{}
	}
	for i := range t.Count + 1 { // the first round warms up
		for n, binary := range t.Binaries {
			res := &r.Results[n]
			if res.Failed != "" {
				continue
			}
			if err := b.letGo(); err != nil {
				return r, err
			}
			pod, err := newPod(fmt.Sprintf("bench%d-%d", i, n))
			if err != nil {
				return r, err
			}
			for _, command := range r.Commands {
				cost, err := run1(b.call(binary, command, pod, conf))
				if err != nil {
					res.Failed = fmt.Sprintf("%s: %v", command, err)
				}
				if i > 0 && err == nil {
					res.add(command, cost)
				}
			}
			if err := pod.end(); err != nil {
				return r, err
			}
		}
		if conf.floor != nil {
			if err := b.letGo(); err != nil {
				return r, err
			}
			to := r.Floor
			if i == 0 {
				to = &result{}
			}
			if err := b.runFloor(fmt.Sprintf("bench%d-floor", i), *conf.floor, to); err != nil {
				return r, err
			}
		}
	}
	for n, binary := range t.Binaries {
		// What one leaves may cost the next requests: igb's VF does not take an
		// address after its PF has set one.
		if err := b.freshVF(ctx); err != nil {
			return r, err
		}
		pod, err := newPod(fmt.Sprintf("trace%d", n))
		if err != nil {
			return r, err
		}
		for _, command := range r.Commands {
			runs := r.Results[n].of(command)
			if runs.Requests, runs.RSS, err = trace(b.call(binary, command, pod, conf)); err != nil {
				return r, err
			}
		}
		if err := pod.end(); err != nil {
			return r, err
		}
	}
	return r, nil
}

// letGo takes back what a contestant may have left, so that it costs the next
// nothing: igb's VF takes no address after its PF has set one.
func (b *bench) letGo() error {
	pf, err := b.c.ByParent(b.pf.Address)
	if err != nil {
		return err
	}
	l, err := b.c.ByParent(b.vf.Address)
	if err != nil {
		return err
	}
	if err := b.c.SetVF(pf.Index, b.vf.Index, vfstate.State{MAC: make([]byte, len(l.MAC))}); err != nil {
		return err
	}
	return b.c.Set(l.Index, link.Update{MAC: l.MAC})
}

// cross has one binary undo another's ADD and returns what is not as before.
func (b *bench) cross(add, del contest.Binary) (left string) {
	before, err := b.look()
	if err != nil {
		return err.Error()
	}
	pod, err := newPod("cross")
	if err != nil {
		return err.Error()
	}
	conf := configurations[2]
	_, addErr := run1(b.call(add, "ADD", pod, conf))
	_, delErr := run1(b.call(del, "DEL", pod, conf))
	after, err := b.look()
	if err := errors.Join(addErr, delErr, err, pod.end()); err != nil {
		return err.Error()
	}
	files := after.Files
	if after.Files = nil; !reflect.DeepEqual(before, after) {
		return "VF is not as before"
	}
	if len(files) > 0 {
		return "VF as before; left " + strings.Join(files, ", ")
	}
	return ""
}

type state struct {
	Admin     vfstate.State
	Name, MAC string
	MTU       int
	Files     []string
}

func (b *bench) look() (s state, err error) {
	pf, err := b.c.ByParent(b.pf.Address)
	if err != nil {
		return s, err
	}
	if s.Admin, err = b.c.VFState(pf.Index, b.vf.Index); err != nil {
		return s, err
	}
	l, err := b.c.ByParent(b.vf.Address)
	if err != nil {
		return s, err
	}
	s.Name, s.MAC, s.MTU = l.Name, l.MAC.String(), l.MTU
	for _, pattern := range []string{"*-net1", "pci/0*", "vf/*"} {
		files, err := filepath.Glob("/var/lib/cni/sriov/" + pattern)
		if err != nil {
			return s, err
		}
		s.Files = append(s.Files, files...)
	}
	return s, nil
}
