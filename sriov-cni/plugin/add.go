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

// nodeHint says what to do about an invalid node configuration.
const nodeHint = "mend the file on this node, or remove it if the defaults will do"

// shownKeys is how many unknown keys the log names.
const shownKeys = 10

// add gives a VF to a pod. Nothing is changed before the journal is on disk; a
// failure after that is undone here, and a kill by the next DEL, GC or ADD.
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

// parse parses and checks the request, including the files of the node that it names.
func (c *call) parse() (request.Request, error) {
	r, err := request.Parse(c.StdinData, c.Args)
	if err != nil {
		return r, err
	}
	if strings.Contains(c.IfName, "%") { // the kernel would expand "net%d" to another name
		return r, cnierr.New(types.ErrInvalidEnvironmentVariables, fmt.Errorf("invalid CNI_IFNAME %q: want a name without %%", c.IfName), "")
	}
	// The node's configuration tells, among other things, where kubelet keeps its records.
	// Without it there is no check that the device was given to this pod.
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

// openPod opens the pod's network namespace. The host's own is refused: an
// interface of the host would be renamed.
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

// claim locks the VF and makes sure that no other pod has it. The journal that it
// returns says only who asks for the VF. For hostName see repair.Repairer.Claim.
func (c *call) claim(ctx context.Context, r request.Request, space state.Namespace) (j state.Journal, hostName string, err error) {
	if _, err := c.host.Identify(r.Device); err != nil { // before the lock, which creates a file
		return j, "", c.host.NoDevice(r.Device, err)
	}
	if err := c.lock(ctx, r.Device); err != nil {
		return j, "", err
	}
	// After the lock: during the wait for it the device may have been given to another pod.
	if err := c.host.RefuseForeign(r.Device, r.PodUID); err != nil {
		return j, "", err
	}
	hostName, err = c.repairer().Claim(ctx, r.Device, c.attachment())
	return state.Journal{
		Version: state.Version, Owner: c.attachment(), Network: r.Conf.Name, Device: r.Device, NetNS: space,
	}, hostName, err
}

// attach carries out the journal and prints the result, which is the last step that
// can fail. inPod is the interface whose addresses are to be announced, if any.
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

// commit makes the attachment permanent: after it only DEL and GC undo it.
func (c *call) commit(j state.Journal, record []byte) error {
	if err := state.Write(c.store.RecordPath(j.Owner), record); err != nil {
		return err
	}
	if err := c.store.Commit(j.Device); err != nil {
		return err
	}
	return state.Write(c.store.MarkerPath(j.Device), []byte(j.NetNS.Path))
}

// undo reverts what a failed ADD did. If that fails too, the journal stays for DEL.
// The record is removed only if it is about the same device: if two networks of a pod
// name its interface alike, it may be the other one's.
func (c *call) undo(ctx context.Context, j state.Journal) error {
	var ipam error
	if c.leasing { // otherwise a lease of this attachment is from an earlier ADD
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
