// SPDX-License-Identifier: Apache-2.0

package podresources

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// checkpoint is the kubelet's device manager state. DeviceIDs is a map from
// NUMA node to IDs, or a plain list before Kubernetes 1.20.
type checkpoint struct {
	Data struct {
		Entries json.RawMessage `json:"PodDeviceEntries"` // a list; kubelets write null for an empty one
	}
}

type entry struct {
	PodUID        string
	ContainerName string
	ResourceName  string
	DeviceIDs     json.RawMessage
}

const (
	checkpointFile = "device-plugins/kubelet_internal_checkpoint"
	// builtIn is where every kubelet has that file, wherever its root directory is, unless a
	// distribution links one to the other (k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1,
	// DevicePluginPath).
	builtIn = "/var/lib/kubelet"
)

func fromCheckpoint(kubeletDir, uid string) (map[string][]string, error) {
	path, data, err := firstOf(filepath.Join(kubeletDir, checkpointFile), filepath.Join(builtIn, checkpointFile))
	if err != nil {
		return nil, err
	}
	if uid == "" {
		return nil, errors.New("no pod-resources socket, and the checkpoint file needs the UID that the runtime did not pass")
	}
	devices, err := parseCheckpoint(data, uid)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return devices, nil
}

// firstOf reads the first file that is there; if none is, the error is that of the first.
func firstOf(paths ...string) (path string, data []byte, err error) {
	for _, path := range paths {
		data, readErr := os.ReadFile(path)
		if !errors.Is(readErr, fs.ErrNotExist) {
			return path, data, readErr
		}
		if err == nil {
			err = readErr
		}
	}
	return "", nil, err
}

func parseCheckpoint(data []byte, uid string) (map[string][]string, error) {
	var c checkpoint
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	if c.Data.Entries == nil {
		return nil, errors.New("no PodDeviceEntries of Data in it")
	}
	var entries []entry
	if err := json.Unmarshal(c.Data.Entries, &entries); err != nil {
		return nil, err
	}
	// The kubelet writes them out of a map: the order of containers is not known,
	// and must not change from one try of ADD to the next.
	slices.SortStableFunc(entries, func(a, b entry) int { return strings.Compare(a.ContainerName, b.ContainerName) })
	devices := map[string][]string{}
	for _, e := range entries {
		if e.PodUID != uid {
			continue
		}
		var byNode map[string][]string
		var list []string
		if json.Unmarshal(e.DeviceIDs, &byNode) != nil {
			if err := json.Unmarshal(e.DeviceIDs, &list); err != nil {
				return nil, fmt.Errorf("DeviceIDs of %s: %w", e.ResourceName, err)
			}
		}
		for _, ids := range byNode {
			list = append(list, ids...)
		}
		slices.Sort(list)
		devices[e.ResourceName] = append(devices[e.ResourceName], list...)
	}
	return devices, nil
}
