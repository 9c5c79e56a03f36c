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

// unlisted finds the VFs that the kubelet's pod-resources API does not list. The API leaves out
// init containers other than sidecars, although their devices remain allocated to the pod until
// it ends. The device manager's checkpoint has them.
//
// The checkpoint may also have pods that have ended since it was written. A pod with a control
// group has not ended. A pod without one either has ended or has not started, for example
// because the node's network is not ready. Only the API server knows which: see inquire.
type unlisted struct {
	checkpoint string // path of kubelet_internal_checkpoint; "" if there is none
	groups     string // the host's /sys/fs/cgroup
}

// maxCheckpoint bounds the size of the checkpoint, bytes: it has every answer of every device
// plugin.
const maxCheckpoint = 256 << 20

// read returns the devices that pods have, by ID, with the pods' UIDs: in begun those of pods
// with a control group, in unclear those of other pods. Devices in known, whose pods the
// pod-resources API names, are left out. A checkpoint that cannot be read is an error, for it
// may be about any device.
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

// given returns, from the checkpoint, the pod's UID by device ID. Without a file nothing has
// been handed out yet (kubernetes/pkg/kubelet/cm/devicemanager/checkpoint).
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
		Data struct{ PodDeviceEntries json.RawMessage }
	}
	var entries []struct {
		PodUID    string
		DeviceIDs map[string][]string // by NUMA node
	}
	if err = json.Unmarshal(text, &file); err == nil {
		if file.Data.PodDeviceEntries == nil { // kubelets write null for none
			err = errors.New("no PodDeviceEntries of Data in it")
		} else {
			err = json.Unmarshal(file.Data.PodDeviceEntries, &entries)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u.checkpoint, err)
	}
	out := map[string]string{}
	for _, e := range entries {
		for _, ids := range e.DeviceIDs {
			for _, id := range ids {
				out[id] = e.PodUID
			}
		}
	}
	return out, nil
}

// podGroup matches the name of a pod's control group: podUID with the cgroup driver cgroupfs,
// kubepods-CLASS-podUID.slice with underscores for dashes with systemd. The UIDs of static pods
// have no dashes (kubernetes/pkg/kubelet/cm/pod_container_manager_linux.go).
var podGroup = regexp.MustCompile(`^(?:kubepods.*-|.*-kubepods.*-)?pod([0-9a-f][0-9a-f_-]{30,34}[0-9a-f])(?:\.slice)?$`)

// maxGroups is how deep below /sys/fs/cgroup the groups of pods are searched for: with cgroup
// v1 a controller comes first, then slices of the node, of all pods and of their QoS class.
const maxGroups = 6

// podGroups returns the UIDs of the pods that have a control group.
func podGroups(root string) (map[string]bool, error) {
	out := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // the pod has ended meanwhile
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
