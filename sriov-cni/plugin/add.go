package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// shownKeys is how many unknown keys the log names.
const shownKeys = 10

// add gives a VF to a pod. Up to the journal it only looks; from there on any
// failure, and any kill, is undone by the journal.
func (p *Plugin) add(ctx context.Context, args *skel.CmdArgs, _ conf) (err error) {
	r, err := parseRequest(args.StdinData, args.Args)
	if err != nil {
		return err
	}
	if len(r.Unknown) > 0 {
		log(ctx).Warn("unknown keys in the configuration", "keys", r.Unknown[:min(len(r.Unknown), shownKeys)], "count", len(r.Unknown))
	}
	if err := p.refuseForeign(r.Device, args.Args); err != nil {
		return err
	}
	podNS, space, err := p.openPodNS(args)
	if err != nil {
		return err
	}
	defer podNS.Close()
	id, err := p.identify(r.Device)
	if err != nil { // no lock, hence no file, for what is not there
		return noDevice(p, r.Device, err)
	}
	if err := p.lock(ctx, r.Device); err != nil {
		return err
	}
	a := attachment{ContainerID: args.ContainerID, IfName: args.IfName}
	hostName, err := p.claim(ctx, r.Device, a)
	if err != nil {
		return err
	}
	t := &transfer{p: p, podNS: podNS, journal: journal{
		Version: journalVersion, Owner: a, Network: r.conf.Name, Device: r.Device, Identity: id, NetNS: space,
	}}
	defer t.close()
	if err := t.prepare(r, hostName); err != nil {
		return err
	}
	if err := save(p.store().journalPath(r.Device), t.journal); err != nil {
		return err
	}
	undo := func() error { return p.undo(context.WithoutCancel(ctx), r, t.journal) }
	defer func() {
		if undo != nil {
			err = errors.Join(err, undo())
		}
	}()
	beside := p.startBeside(ctx, r, *t)
	moved := t.execute(ctx, r)
	o := <-beside // even if the move failed: nothing may run beside the undoing
	if err := errors.Join(moved, o.err); err != nil {
		return err
	}
	if o.leased != nil && t.link != nil {
		if err := t.configure(o.leased); err != nil {
			return &failure{Code: codeMove, Err: fmt.Errorf("failed to configure interface %s: %w", a.IfName, err)}
		}
	}
	if err := p.commit(t.journal); err != nil {
		return err
	}
	undo = nil
	log(ctx).Info("VF given to pod", "pci", r.Device, "vf", t.device.Index)

	if t.inPod != nil {
		if err := announce(ctx, t.pod, *t.inPod, o.leased); err != nil {
			log(ctx).Warn("addresses not announced", "err", err)
		}
	}
	_, err = p.Stdout.Write(o.answer)
	return err
}

// outcome is what ADD has beside an interface in the pod.
type outcome struct {
	leased *types100.Result // nil without an IPAM plugin
	answer []byte           // what to print
	err    error
}

// startBeside does what does not need the interface in the pod: it has IPAM
// lease addresses, which may take long, writes the record and composes the
// answer. Drivers sleep in what goes on meanwhile (igbvf 2 × 10 ms to set the
// interface up). A record of an ADD that goes no further does no harm: what DEL
// is to do the journal tells. The channel gets one outcome, always.
func (p *Plugin) startBeside(ctx context.Context, r request, t transfer) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		if o.leased, o.err = addIPAM(ctx, r); o.err == nil {
			o.answer, o.err = t.answer(r, o.leased)
		}
		if o.err == nil {
			o.err = p.saveRecord(r, t)
		}
		done <- o
	}()
	return done
}

// saveRecord writes the file that the other plugin goes by.
func (p *Plugin) saveRecord(r request, t transfer) error {
	pfName := ""
	if t.device.PF != nil {
		pfName = t.device.PF.Name
	}
	b, err := composeRecord(r, t.journal, pfName)
	if err != nil {
		return err
	}
	return write(p.store().recordPath(t.journal.Owner), b)
}

// openPodNS opens the pod's namespace, which must not be the host's own: that
// would rename a host interface.
func (p *Plugin) openPodNS(args *skel.CmdArgs) (*os.File, namespace, error) {
	f, space, err := namespace{Path: args.Netns}.open()
	if err != nil {
		return nil, space, &failure{Code: types.ErrInvalidNetNS, Err: fmt.Errorf("failed to open netns %q: %w", args.Netns, err)}
	}
	override := strings.EqualFold(args.NetnsOverride, "true") || args.NetnsOverride == "1"
	if sameFile(f, p.path("proc/self/ns/net")) && !override {
		f.Close()
		return nil, space, &failure{Code: types.ErrInvalidNetNS, Err: fmt.Errorf("CNI_NETNS %q is the host's own network namespace", args.Netns)}
	}
	return f, space, nil
}

// commit makes the attachment permanent: from here on only DEL and GC undo it.
func (p *Plugin) commit(j journal) error {
	s := p.store()
	if err := s.commit(j.Device); err != nil {
		return err
	}
	return write(s.markerPath(j.Device), []byte(j.NetNS.Path))
}

// undo takes back what a failed ADD did. What it cannot take back it leaves to
// DEL, together with the journal.
func (p *Plugin) undo(ctx context.Context, r request, j journal) error {
	s := p.store()
	ipam := delIPAM(ctx, r.conf.IPAM.Type, r.stdin, j.Owner, j.NetNS.Path)
	err := p.recoverVF(ctx, j)
	if err == nil {
		err = remove(s.markerPath(j.Device), s.journalPath(j.Device), s.recordPath(j.Owner))
	}
	return errors.Join(err, ipam)
}
