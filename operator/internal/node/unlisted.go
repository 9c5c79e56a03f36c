// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// unlisted finds who has VFs of the device plugin's that the kubelet's pod-resources API does
// not tell of: it leaves out init containers other than sidecars, whose VFs are their pod's to
// its end. The device manager's checkpoint has them, and beside them pods that have ended
// since it was written; a pod that has begun has a control group. checkpoint is the
// path of the one, "" knows of none; groups that of the others. One without a group has ended,
// or has not begun: it may wait for the node's network as long as that takes. Only the API
// server knows which; see inquiry.
type unlisted struct{ checkpoint, groups string }

// maxCheckpoint bounds what is read of the checkpoint, bytes: all answers of device plugins.
const maxCheckpoint = 256 << 20

// read lists the devices that pods have, by ID, with the pods' UIDs: in begun those of pods
// with a control group, in unclear the others. known are devices whose holders are known
// already. What cannot be read is an error: it may be any device.
func (u unlisted) read(known map[string]string) (begun, unclear map[string]string, err error) {
	if u.checkpoint == "" {
		return nil, nil, nil
	}
	given, err := u.given()
	if err != nil {
		return nil, nil, fmt.Errorf("read which VFs the kubelet has given to pods: %w", err)
	}
	for device := range given {
		if known[device] != "" || !pciAddress.MatchString(device) {
			delete(given, device)
		}
	}
	if len(given) == 0 {
		return nil, nil, nil
	}
	here, err := podGroups(u.groups)
	if err != nil {
		return nil, nil, fmt.Errorf("find the pods of the node by their control groups: %w", err)
	}
	begun, unclear = map[string]string{}, map[string]string{}
	for device, uid := range given {
		if here[uid] {
			begun[device] = uid
		} else {
			unclear[device] = uid
		}
	}
	return begun, unclear, nil
}

var pciAddress = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// given reads the checkpoint, kubelet_internal_checkpoint: the UID of a pod by the device
// that it was given. Without a file nothing was given out yet.
func (u unlisted) given() (map[string]string, error) {
	info, err := os.Stat(u.checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file, but %s", u.checkpoint, info.Mode())
	}
	if info.Size() > maxCheckpoint {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", u.checkpoint, info.Size(), maxCheckpoint)
	}
	text, err := os.ReadFile(u.checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var file struct {
		Data *struct {
			PodDeviceEntries []struct {
				PodUID    string
				DeviceIDs map[string][]string // by NUMA node
			}
		}
	}
	err = json.Unmarshal(text, &file)
	if err == nil && file.Data == nil {
		err = errors.New("no Data in it")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u.checkpoint, err)
	}
	out := map[string]string{}
	for _, e := range file.Data.PodDeviceEntries {
		for _, ids := range e.DeviceIDs {
			for _, id := range ids {
				out[id] = e.PodUID
			}
		}
	}
	return out, nil
}

// podGroup is the name of a pod's control group: podUID of the driver cgroupfs,
// kubepods-CLASS-podUID.slice of systemd with underscores for dashes. UIDs are of the API
// server, or of static pods, which have no dashes (pkg/kubelet/cm/pod_container_manager_linux.go).
var podGroup = regexp.MustCompile(`^(?:kubepods.*-|.*-kubepods.*-)?pod([0-9a-f][0-9a-f_-]{30,34}[0-9a-f])(?:\.slice)?$`)

// maxGroups is how deep pods are: below a controller, a slice of the node's, of all pods, and
// of their class.
const maxGroups = 6

// podGroups finds the UIDs of the pods that are on the node, below the host's /sys/fs/cgroup.
func podGroups(root string) (map[string]bool, error) {
	out := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // ended meanwhile, or a host without
			return nil
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		}
		if at := podGroup.FindStringSubmatch(d.Name()); at != nil {
			out[strings.ReplaceAll(at[1], "_", "-")] = true
			return fs.SkipDir
		}
		if below, _ := filepath.Rel(root, path); strings.Count(below, "/") >= maxGroups-1 {
			return fs.SkipDir
		}
		return nil
	})
	return out, err
}
