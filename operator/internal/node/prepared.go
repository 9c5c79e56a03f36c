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

// prepared reads the kubelet's checkpoint of prepared claims, dra_manager_state
// (kubernetes/pkg/kubelet/cm/dra/state). The pod-resources API leaves out claims that only init
// containers use. This project's DRA driver has records of those; for other drivers the
// checkpoint is the only source. It is not found where the kubelet runs in a container.
type prepared struct{ path string } // "" if there is none

// maxPrepared bounds the size of the checkpoint, bytes: a claim with 32 devices takes 8 KiB.
const maxPrepared = 64 << 20

// read adds the PCI functions of claims to held, with the UIDs of their pods. A checkpoint that
// cannot be read is an error, for it may be about any device. recorded says that this project's
// driver keeps records; its claims are then skipped, because only the records tell admin access
// apart.
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
			continue // its pods have ended
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
	case errors.Is(err, fs.ErrNotExist): // nothing has been prepared yet
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
	return parsePrepared(text)
}

// parsePrepared reads the list. Since Kubernetes 1.32 it is JSON in a string of JSON and always has
// the key, also with no claim; before, it had a version, and its claims another API version. What
// is neither, such as {}, no kubelet has written.
func parsePrepared(text []byte) ([]preparedClaim, error) {
	var file struct {
		Data    *string
		Version string
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	switch {
	case file.Data == nil && file.Version != "":
		return nil, nil
	case file.Data == nil:
		return nil, errors.New("neither data nor a version in it: not a list of a known kubelet's")
	}
	var list struct{ ClaimInfoStateList json.RawMessage }
	if err := json.Unmarshal([]byte(*file.Data), &list); err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	if list.ClaimInfoStateList == nil {
		return nil, errors.New("data: no ClaimInfoStateList in it: not a list of a known kubelet's")
	}
	var claims []preparedClaim
	if err := json.Unmarshal(list.ClaimInfoStateList, &claims); err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	return claims, nil
}
