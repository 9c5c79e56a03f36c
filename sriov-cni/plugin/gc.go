package plugin

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
)

// gc takes back every VF of this network that no valid attachment has. Other
// networks' are not looked at: their valid attachments are not known here.
func (p *Plugin) gc(ctx context.Context, args *skel.CmdArgs, c conf) error {
	if c.ValidAttachments == nil {
		return &failure{Code: types.ErrInvalidNetworkConfig, Err: errors.New("GC needs " + validAttachments + ", the list of what is to stay; an empty list is none")}
	}
	s := p.store()
	valid := map[string]bool{} // by the name of the record
	for _, a := range c.ValidAttachments {
		valid[filepath.Base(s.recordPath(attachment{ContainerID: a.ContainerID, IfName: a.IfName}))] = true
	}
	stale := map[string]attachment{}
	netns := map[string]string{}
	var errs []error
	devices, err := s.devices("vf")
	errs = append(errs, err)
	for _, device := range devices {
		var j journal
		if err := load(s.journalPath(device), &j); err != nil {
			if errors.Is(err, errDamaged) {
				log(ctx).Warn("journal is damaged; the next ADD or DEL of its VF deals with it", "pci", device, "err", err)
			}
			continue
		}
		name := filepath.Base(s.recordPath(j.Owner))
		if j.Network == c.Name && !valid[name] {
			stale[name], netns[name] = j.Owner, j.NetNS.Path
		}
	}
	names, err := s.records()
	errs = append(errs, err)
	for _, name := range names {
		var r record
		if _, known := stale[name]; known || valid[name] || load(filepath.Join(s.dir, name), &r) != nil || r.Name != c.Name {
			continue
		}
		stale[name] = splitRecordName(name)
	}
	for name, a := range stale {
		log(ctx).Info("collecting attachment", "owner", a.ContainerID, "ownerIfname", a.IfName)
		forOne := *args
		forOne.ContainerID, forOne.IfName, forOne.Netns = a.ContainerID, a.IfName, netns[name]
		errs = append(errs, p.release(ctx, a, filepath.Join(s.dir, name), &forOne, c))
	}
	if c.IPAM.Type != "" {
		if err := invoke.DelegateGC(ctx, c.IPAM.Type, args.StdinData, nil); err != nil && !lacksCommand(err) {
			errs = append(errs, ipamError("GC", c.IPAM.Type, err))
		}
	}
	return errors.Join(errs...)
}

// lacksCommand tells that a plugin is older than the command it was given.
func lacksCommand(err error) bool {
	var e *types.Error
	return errors.As(err, &e) && slices.Contains([]uint{types.ErrIncompatibleCNIVersion, types.ErrInvalidEnvironmentVariables}, e.Code)
}
