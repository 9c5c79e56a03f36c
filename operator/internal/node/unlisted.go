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
	"time"
)

// unlisted finds who has VFs of the device plugin's that the kubelet's pod-resources API does
// not tell of: it leaves out init containers other than sidecars, whose VFs are their pod's to
// its end. The device manager's checkpoint has them, and beside them pods that have ended
// since it was written; a pod that is on the node has a control group. checkpoint is the
// path of the one, "" knows of none; groups that of the others.
type unlisted struct{ checkpoint, groups string }

// beginLimit is how long a pod may take, from when it is in the checkpoint, to have its
// control group, which is among the first that the kubelet makes for it. One that waits longer,
// such as for the node's network, is not told from one that has ended.
const beginLimit = 2 * time.Second

// maxCheckpoint bounds what is read of the checkpoint, bytes: all answers of device plugins.
const maxCheckpoint = 256 << 20

// read lists the devices that pods have, by ID, with the pods' UIDs. Those that pods which
// are not there yet may just have been given are in begun, too. known are devices whose
// holders are known already. What cannot be read is an error: it may be any device.
func (u unlisted) read(known map[string]string) (pods map[string]string, begun map[string]bool, err error) {
	if u.checkpoint == "" {
		return nil, nil, nil
	}
	given, written, err := u.given()
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
	pods, begun = map[string]string{}, map[string]bool{}
	for device, uid := range given {
		switch {
		case here[uid] || len(here) == 0: // without groups of pods, and this is one, they tell nothing
			pods[device] = uid
		case time.Since(written) < beginLimit:
			begun[device] = true
		}
	}
	return pods, begun, nil
}

var pciAddress = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// given reads the checkpoint, kubelet_internal_checkpoint: the UID of a pod by the device
// that it was given, and when that was written. Without a file nothing was given out yet.
func (u unlisted) given() (map[string]string, time.Time, error) {
	info, err := os.Stat(u.checkpoint) // first: one that is written meanwhile looks older than it is
	if errors.Is(err, fs.ErrNotExist) {
		return nil, time.Time{}, nil
	} else if err != nil {
		return nil, time.Time{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, time.Time{}, fmt.Errorf("%s is not a file, but %s", u.checkpoint, info.Mode())
	}
	if info.Size() > maxCheckpoint {
		return nil, time.Time{}, fmt.Errorf("%s has %d bytes, more than %d", u.checkpoint, info.Size(), maxCheckpoint)
	}
	text, err := os.ReadFile(u.checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, time.Time{}, nil
	} else if err != nil {
		return nil, time.Time{}, err
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
		return nil, time.Time{}, fmt.Errorf("%s: %w", u.checkpoint, err)
	}
	out := map[string]string{}
	for _, e := range file.Data.PodDeviceEntries {
		for _, ids := range e.DeviceIDs {
			for _, id := range ids {
				out[id] = e.PodUID
			}
		}
	}
	return out, info.ModTime(), nil
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
