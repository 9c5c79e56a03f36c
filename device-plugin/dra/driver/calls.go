// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
)

// lock keeps calls apart, those of another instance of the driver too. The kernel releases it
// when the process ends.
func (d *Driver) lock() (unlock func(), err error) {
	d.calls.Lock()
	var file *os.File
	err = os.MkdirAll(d.opts.PluginDir, 0o750) // none on a new node
	if err == nil {
		file, err = os.OpenFile(filepath.Join(d.opts.PluginDir, "calls.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err == nil {
		if err = unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
			err = errors.Join(err, file.Close())
		}
	}
	if err != nil {
		d.calls.Unlock()
		return nil, fmt.Errorf("lock: %w", err)
	}
	return func() {
		_ = file.Close()
		d.calls.Unlock()
	}, nil
}

// PrepareResourceClaims implements kubeletplugin.DRAPlugin.
func (d *Driver) PrepareResourceClaims(ctx context.Context, claims []*resourceapi.ResourceClaim) (map[types.UID]kubeletplugin.PrepareResult, error) {
	out, err := d.prepare(ctx, claims)
	if err != nil {
		return nil, err
	}
	for _, c := range claims { // others may call meanwhile
		d.tell(ctx, c, out[c.UID].Err)
	}
	return out, nil
}

func (d *Driver) prepare(ctx context.Context, claims []*resourceapi.ResourceClaim) (map[types.UID]kubeletplugin.PrepareResult, error) {
	unlock, err := d.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	out := map[types.UID]kubeletplugin.PrepareResult{}
	for _, c := range claims {
		result := d.preparer.Prepare(ctx, c)
		out[c.UID] = result
		if result.Err != nil {
			d.log.Error("prepare", "claim", c.Namespace+"/"+c.Name, "err", result.Err)
			continue
		}
		d.log.Info("prepared", "claim", c.Namespace+"/"+c.Name, "devices", len(result.Devices))
	}
	return out, nil
}

// UnprepareResourceClaims implements kubeletplugin.DRAPlugin.
func (d *Driver) UnprepareResourceClaims(ctx context.Context, claims []kubeletplugin.NamespacedObject) (map[types.UID]error, error) {
	unlock, err := d.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	out := map[types.UID]error{}
	for _, c := range claims {
		err := d.preparer.Unprepare(ctx, c.UID)
		out[c.UID] = err
		if err != nil {
			d.log.Error("unprepare", "claim", c.String(), "err", err)
			continue
		}
		d.log.Info("unprepared", "claim", c.String())
	}
	return out, nil
}
