package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/delegate"
	"github.com/sriovkit/sriovkit/multus-shim/record"
)

// gc detaches every container that the runtime does not list, and hands each
// network's plugins the attachments that are left of it. Errors are collected.
func gc(ctx context.Context, c *call) error {
	if c.conf.ValidAttachments == nil {
		return coded(types.ErrInvalidNetworkConfig, errors.New("cni.dev/valid-attachments is missing: without it every attachment would be deleted"))
	}
	listed := map[string]conf.Attachment{}
	for _, a := range c.conf.ValidAttachments {
		listed[a.ContainerID] = a
	}
	var err error
	if c.store, err = c.store.Index(); err != nil {
		return coded(types.ErrIOFailure, err)
	}
	ids, err := c.store.Containers()
	if err != nil {
		return coded(types.ErrIOFailure, err)
	}
	networks := map[string]*liveNetwork{}
	var errs []error
	for _, id := range ids {
		a, valid := listed[id]
		errs = append(errs, c.sweep(ctx, id, a.IfName, valid, networks))
	}
	for _, d := range c.inlineDefault() {
		network(networks, d)
	}
	for _, name := range slices.Sorted(maps.Keys(networks)) {
		n := networks[name]
		if err := c.runner.GC(ctx, n.attachment, n.valid); err != nil {
			errs = append(errs, fmt.Errorf("network %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// liveNetwork is a network and its attachments that remain.
type liveNetwork struct {
	attachment delegate.Attachment
	valid      []conf.Attachment
}

func network(networks map[string]*liveNetwork, a delegate.Attachment) *liveNetwork {
	if networks[a.Name] == nil {
		networks[a.Name] = &liveNetwork{attachment: a}
	}
	return networks[a.Name]
}

// sweep handles one container: detached if it is not valid, counted if it is.
// One that another command holds is alive; it is left out of the deletions.
func (c *call) sweep(ctx context.Context, id, ifname string, valid bool, networks map[string]*liveNetwork) error {
	now, cancel := context.WithCancel(ctx)
	cancel() // try the lock, do not wait
	release, err := c.store.Lock(now, id)
	locked := errors.Is(err, record.ErrLocked)
	if err != nil && !locked {
		return err
	}
	if !locked {
		defer release()
	}
	if ifname == "" {
		ifname = c.recordedIfname(id)
	}
	r, err := c.store.Find(id, ifname, nil)
	if err != nil {
		return fmt.Errorf("container %s: %w", id, err)
	}
	if r == nil || r.Network != "" && r.Network != c.conf.Name {
		return nil
	}
	for _, e := range r.Entries {
		n := network(networks, e.Attachment)
		if valid || locked {
			n.valid = append(n.valid, conf.Attachment{ContainerID: id, IfName: e.Ifname})
		}
	}
	if valid || locked {
		return nil
	}
	if err := c.detach(ctx, r, livingNetns(r.Netns)); err != nil {
		return fmt.Errorf("container %s: %w", id, err)
	}
	return nil
}

// recordedIfname is the interface of the default network; without a record of
// ours it is the one that Kubernetes' runtimes always use.
func (c *call) recordedIfname(id string) string {
	if r, err := c.store.Load(id); err == nil {
		return r.Ifname
	}
	return "eth0"
}

// livingNetns is the recorded namespace if it is certainly still that one: a
// path below /proc may lead to another process by now.
func livingNetns(path string) string {
	if strings.HasPrefix(path, "/proc/") {
		return ""
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return path
}
