// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/sriov-cni/attach"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/file"
	"github.com/sriovkit/sriovkit/sriov-cni/request"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
)

// nodeHint is what to do about a node configuration that cannot be understood.
const nodeHint = "mend the file on this node, or remove it if the defaults will do"

// shownKeys is how many unknown keys the log names.
const shownKeys = 10

// add gives a VF to a pod. Up to the journal it only looks; from there on any
// failure, and any kill, is undone by the journal.
func (c *call) add(ctx context.Context) (err error) {
	r, err := c.parse()
	if err != nil {
		return err
	}
	pod, space, err := c.openPod()
	if err != nil {
		return err
	}
	defer pod.Close()
	j, hostName, err := c.claim(ctx, r, space)
	if err != nil {
		return err
	}
	t, err := attach.Prepare(ctx, c.host, c.store, r, pod, j, hostName)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := state.Save(c.store.JournalPath(r.Device), t.Journal); err != nil {
		return err
	}
	leased, inPod, err := c.attach(ctx, t)
	if err != nil {
		return errors.Join(err, c.undo(context.WithoutCancel(ctx), t.Journal))
	}
	slog.Info("VF given to pod", "pci", r.Device, "vf", t.Journal.VFIndex)
	if inPod != nil {
		if err := attach.Announce(ctx, pod, *inPod, leased); err != nil {
			slog.Warn("addresses not announced", "err", err)
		}
	}
	return nil
}

// parse checks the request, and whether it may have what it names of the node.
func (c *call) parse() (request.Request, error) {
	r, err := request.Parse(c.StdinData, c.Args)
	if err != nil {
		return r, err
	}
	if strings.Contains(c.IfName, "%") { // to the kernel it is a pattern, and the name another
		return r, cnierr.New(types.ErrInvalidEnvironmentVariables, fmt.Errorf("invalid CNI_IFNAME %q: want a name without %%", c.IfName), "")
	}
	// Where kubelet keeps its records, for one, is not known: whose device it is can't be, either.
	if c.nodeErr != nil {
		return r, cnierr.New(types.ErrIOFailure, c.nodeErr, nodeHint)
	}
	if len(r.Unknown) > 0 {
		slog.Warn("unknown keys in the configuration", "keys", r.Unknown[:min(len(r.Unknown), shownKeys)], "count", len(r.Unknown))
	}
	if err := r.NamesFiles(c.files()); err != nil {
		return r, err
	}
	return r, nil
}

// openPod opens the pod's namespace, which must not be the host's own: that
// would rename a host interface.
func (c *call) openPod() (pod attach.Pod, space state.Namespace, err error) {
	fail := func(err error) error { return cnierr.New(types.ErrInvalidNetNS, err, "") }
	if pod.NS, space, err = (state.Namespace{Path: c.Netns}).Open(); err != nil {
		return pod, space, fail(fmt.Errorf("failed to open netns %q: %w", c.Netns, err))
	}
	override := strings.EqualFold(c.NetnsOverride, "true") || c.NetnsOverride == "1"
	if file.Same(pod.NS, c.host.NetNSPath()) && !override {
		pod.NS.Close()
		return pod, space, fail(fmt.Errorf("CNI_NETNS %q is the host's own network namespace", c.Netns))
	}
	if pod.Home, err = c.host.NetNS(); err == nil {
		pod.Conn, err = link.Open(pod.NS)
	}
	return pod, space, err
}

// claim takes the VF's lock and settles that nobody has it. The journal says so
// far only who wants it; hostName is as Repairer.Claim says.
func (c *call) claim(ctx context.Context, r request.Request, space state.Namespace) (j state.Journal, hostName string, err error) {
	if _, err := c.host.Identify(r.Device); err != nil { // no lock, hence no file, for what is not there
		return j, "", c.host.NoDevice(r.Device, err)
	}
	if err := c.lock(ctx, r.Device); err != nil {
		return j, "", err
	}
	// Under the lock: whoever waited for it may have waited for the device to become another's.
	if err := c.host.RefuseForeign(r.Device, r.PodUID); err != nil {
		return j, "", err
	}
	hostName, err = c.repairer().Claim(ctx, r.Device, c.attachment())
	return state.Journal{
		Version: state.Version, Owner: c.attachment(), Network: r.Conf.Name, Device: r.Device, NetNS: space,
	}, hostName, err
}

// attach does what the journal says, and prints the result once nothing can fail
// any more. inPod is the interface that has addresses to announce, if any.
func (c *call) attach(ctx context.Context, t *attach.Transfer) (leased *types100.Result, inPod *link.Link, err error) {
	if err := t.Execute(ctx); err != nil {
		return nil, nil, err
	}
	c.leasing = true
	leased, err = attach.Lease(ctx, c.conf.IPAM.Type, c.StdinData)
	if err != nil {
		return nil, nil, err
	}
	answer, err := t.Answer(leased)
	if err != nil {
		return nil, nil, err
	}
	if inPod, err = t.Configure(leased); err != nil {
		return nil, nil, err
	}
	record, err := t.Record()
	if err != nil {
		return nil, nil, err
	}
	if err := c.commit(t.Journal, record); err != nil {
		return nil, nil, err
	}
	_, err = c.Stdout.Write(answer)
	return leased, inPod, cnierr.IO(err)
}

// commit makes the attachment permanent: from here on only DEL and GC undo it.
func (c *call) commit(j state.Journal, record []byte) error {
	if err := state.Write(c.store.RecordPath(j.Owner), record); err != nil {
		return err
	}
	if err := c.store.Commit(j.Device); err != nil {
		return err
	}
	return state.Write(c.store.MarkerPath(j.Device), []byte(j.NetNS.Path))
}

// undo takes back what a failed ADD did. What it cannot take back it leaves to
// DEL, together with the journal. A record of another device is an earlier ADD's, of two
// networks that name the pod's interface alike.
func (c *call) undo(ctx context.Context, j state.Journal) error {
	var ipam error
	if c.leasing { // else what the plugin knows of this attachment is an earlier ADD's
		ipam = attach.Release(ctx, c.conf.IPAM.Type, c.StdinData, j.Owner, j.NetNS.Path)
	}
	r, path := c.repairer(), c.store.RecordPath(j.Owner)
	err := r.Restore(ctx, j)
	if err == nil {
		err = cnierr.IO(state.Remove(c.store.MarkerPath(j.Device), c.store.JournalPath(j.Device)))
	}
	if rec, recErr := r.LoadRecord(path, j.Owner); err == nil && recErr == nil && (rec.Device == "" || rec.Device == j.Device.String()) {
		err = cnierr.IO(state.Remove(path))
	}
	return errors.Join(err, ipam)
}
