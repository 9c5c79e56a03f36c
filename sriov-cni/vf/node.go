// SPDX-License-Identifier: Apache-2.0

package vf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/file"
)

// NodeConfigPath is the file in which a node's administrator settles what no
// network's configuration may.
const NodeConfigPath = "/etc/cni/sriov.json"

// NodeConfig is what the administrator settles. Without the file, and for keys
// that are not in it, the defaults hold.
type NodeConfig struct {
	// LogDirectory holds every file that a network's logFile names.
	LogDirectory string `json:"logDirectory"`

	// KubeletDirectory is kubelet's root directory.
	KubeletDirectory string `json:"kubeletDirectory"`

	// Functions may be given to pods although they are no VFs of a PF of this
	// node, as the VFs that a virtual machine got from its hypervisor.
	Functions []libsriov.Address `json:"functions"`

	// OnlyGiven refuses every device that kubelet has not given to the pod, by a device plugin
	// or by a claim: also those that nobody is known to hand out.
	OnlyGiven bool `json:"onlyGiven"`

	// IPAMPaths are directories in which the ipam section of any network may name files,
	// by whatever key, beside those that are usual for the key.
	IPAMPaths []string `json:"ipamPaths"`
}

// DefaultLogDirectory is where logs are written unless the node's file says otherwise.
const DefaultLogDirectory = "/var/log/sriov-cni"

const defaultKubeletDirectory = "/var/lib/kubelet"

// ReadNodeConfig reads the administrator's file below root. With an error the defaults are
// returned, which are good for taking a VF back, but not for giving one: kubelet's records
// may be elsewhere.
func ReadNodeConfig(root string) (NodeConfig, error) {
	defaults := NodeConfig{LogDirectory: DefaultLogDirectory, KubeletDirectory: defaultKubeletDirectory}
	b, err := file.Read(filepath.Join(root, NodeConfigPath))
	if errors.Is(err, fs.ErrNotExist) {
		return defaults, nil
	}
	c := defaults
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields() // what is misspelt here would be in force for nobody
		if err = d.Decode(&c); err == nil {
			if _, end := d.Token(); end != io.EOF {
				err = errors.New("something follows the JSON object")
			}
		}
	}
	if err == nil {
		for _, p := range append([]string{c.LogDirectory, c.KubeletDirectory}, c.IPAMPaths...) {
			if !path.IsAbs(p) {
				err = fmt.Errorf("%q: logDirectory, kubeletDirectory and ipamPaths must be absolute paths", p)
			}
		}
	}
	if err != nil {
		return defaults, fmt.Errorf("%s: %w", NodeConfigPath, err)
	}
	return c, nil
}

func (c NodeConfig) lists(a libsriov.Address) bool { return slices.Contains(c.Functions, a) }

// Real is where an absolute path of the node leads, without symbolic links. The part of it that
// is not there yet leads to itself; a link that leads nowhere is an error.
func (h *Host) Real(name string) (string, error) {
	root, err := filepath.EvalSymlinks(h.Root)
	if err != nil {
		return "", err
	}
	to, err := filepath.EvalSymlinks(h.path(name))
	if err == nil {
		return path.Join("/", strings.TrimPrefix(to, root)), nil
	}
	if _, linkErr := os.Lstat(h.path(name)); !errors.Is(linkErr, fs.ErrNotExist) {
		return "", err
	}
	dir, err := h.Real(path.Dir(name))
	if err != nil {
		return "", err
	}
	return path.Join(dir, path.Base(name)), nil
}
