// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// prepared is the kubelet's own list of the claims that are prepared, dra_manager_state
// (pkg/kubelet/cm/dra/state). Its pod-resources API leaves out claims that only init containers
// have; of the driver of this project records tell, of other drivers this list alone. "" knows
// of none. Where the kubelet runs in a container of its own it is not found.
type prepared struct{ path string }

// maxPrepared bounds what is read of the list, bytes: a claim of 32 devices has 8 KiB.
const maxPrepared = 64 << 20

// read adds the PCI functions of claims to those that are held, with the UIDs of their pods.
// What cannot be read is an error: it may be any device. recorded: this project's driver keeps
// records, which also know what is only looked at.
func (p prepared) read(held map[string]string, recorded bool) error {
	if p.path == "" {
		return nil
	}
	claims, err := p.claims()
	if err != nil {
		return fmt.Errorf("read which claims the kubelet has prepared: %s: %w", p.path, err)
	}
	for _, c := range claims {
		if len(c.PodUIDs) == 0 {
			continue // of a pod that has ended
		}
		pod := slices.Min(slices.Collect(maps.Keys(c.PodUIDs)))
		for driver, state := range c.DriverState {
			if driver == v1.DRADriver && recorded {
				continue
			}
			for _, d := range state.Devices {
				for _, name := range append([]string{d.DeviceName}, d.CDIDeviceIDs...) {
					if address, ok := functionOf(name); ok && held[address] == "" {
						held[address] = pod
					}
				}
			}
		}
	}
	return nil
}

// preparedClaim is what is read of one.
type preparedClaim struct {
	PodUIDs     map[string]any
	DriverState map[string]struct {
		Devices []struct {
			DeviceName   string
			CDIDeviceIDs []string
		}
	}
}

func (p prepared) claims() ([]preparedClaim, error) {
	info, err := os.Stat(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist): // nothing was prepared yet, or it is elsewhere
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("it is not a file, but %s", info.Mode())
	case info.Size() > maxPrepared:
		return nil, fmt.Errorf("it has %d bytes, more than %d", info.Size(), maxPrepared)
	}
	text, err := os.ReadFile(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var file struct{ Data *string } // JSON in JSON
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	if file.Data == nil {
		return nil, nil // of Kubernetes before 1.32, which knows none of today's claims
	}
	var list struct{ ClaimInfoStateList []preparedClaim }
	if err := json.Unmarshal([]byte(*file.Data), &list); err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	return list.ClaimInfoStateList, nil
}
