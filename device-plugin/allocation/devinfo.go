// SPDX-License-Identifier: Apache-2.0

package allocation

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

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
)

// File is a file of the device-info directory.
type File struct {
	Name string
	Data []byte
}

// deviceInfoVersion is the version of the device-info specification.
const deviceInfoVersion = "1.1.0"

// deviceInfo is the document that CNI plugins find out about a device from.
type deviceInfo struct {
	Type    string    `json:"type"`
	Version string    `json:"version"`
	PCI     *pciInfo  `json:"pci,omitempty"`
	VDPA    *vdpaInfo `json:"vdpa,omitempty"`
}

type pciInfo struct {
	Address   string `json:"pci-address"`
	PFAddress string `json:"pf-pci-address,omitempty"`
	RDMA      string `json:"rdma-device,omitempty"`
}

type vdpaInfo struct {
	Parent    string `json:"parent-device"`
	Driver    string `json:"driver"`
	Path      string `json:"path,omitempty"`
	Address   string `json:"pci-address"`
	PFAddress string `json:"pf-pci-address,omitempty"`
}

// deviceInfo composes the file of a member; nil for a pool whose devices have
// none.
func (h Host) deviceInfo(r config.Resource, m pool.Member, rdma []string) (*File, error) {
	if m.Type != config.NetDevice {
		return nil, nil
	}
	pf := ""
	if m.PF != nil {
		pf = m.PF.String()
	}
	doc := deviceInfo{Type: "pci", Version: deviceInfoVersion}
	if m.Selector.VDPA != "" {
		v, err := h.currentVDPA(m)
		if err != nil {
			return nil, err
		}
		doc.Type = "vdpa"
		doc.VDPA = &vdpaInfo{Parent: v.Name, Driver: string(m.Selector.VDPA), Path: v.Node, Address: m.Address.String(), PFAddress: pf}
	} else {
		doc.PCI = &pciInfo{Address: m.Address.String(), PFAddress: pf, RDMA: strings.Join(rdma, ",")}
	}
	data, err := json.Marshal(doc)
	return &File{Name: DeviceInfoName(r, m.ID), Data: data}, err
}

const deviceInfoSuffix = "-device.json"

// DeviceInfoName is the name of a device's file in the device-info directory.
func DeviceInfoName(r config.Resource, id string) string {
	return deviceInfoPrefix(r) + id + deviceInfoSuffix
}

func deviceInfoPrefix(r config.Resource) string { return r.Prefix + "-" + r.Name + "-" }

// writeAll writes files so that a reader sees the whole of each or none.
func writeAll(dir string, files []File) error {
	if len(files) == 0 {
		return nil
	}
	if err := publicDir(dir); err != nil {
		return err
	}
	for _, f := range files {
		if err := replaceFile(filepath.Join(dir, f.Name), f.Data, 0o444); err != nil {
			return fmt.Errorf("write device info: %w", err)
		}
	}
	return nil
}

// InfoFile is a device-info file that lies in the directory.
type InfoFile struct {
	path   string
	Device string
	// of is the part of the name in front of the device: prefix and name of the resource,
	// which a hyphen joins as it may join the parts of either.
	of      string
	Written time.Time
}

// Of reports whether the file is of a device of a resource.
func (f InfoFile) Of(r config.Resource) bool { return f.of == deviceInfoPrefix(r) }

// OfPrefix reports whether the file is of a device of some resource with a prefix.
func (f InfoFile) OfPrefix(prefix string) bool { return strings.HasPrefix(f.of, prefix+"-") }

// Remove deletes the file.
func (f InfoFile) Remove() error { return os.Remove(f.path) }

// InfoFiles lists the device-info files of a directory, whoever wrote them.
func InfoFiles(dir string) ([]InfoFile, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []InfoFile
	for _, e := range entries {
		name, isInfo := strings.CutSuffix(e.Name(), deviceInfoSuffix)
		at := deviceID.FindStringIndex(name)
		info, err := e.Info()
		if !isInfo || at == nil || err != nil {
			continue
		}
		files = append(files, InfoFile{path: filepath.Join(dir, e.Name()), Device: name[at[0]:], of: name[:at[0]], Written: info.ModTime()})
	}
	return files, nil
}

// deviceID finds the ID at the end of a name: a PCI address, or the name of a sub-function,
// for which versions of other programs write such files.
var deviceID = regexp.MustCompile(`([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]|[a-zA-Z0-9_]+\.sf\.[0-9]+)$`)

// WriteInfo writes the device-info file of a member again, if it should have one and it is
// not there: after a reboot kubelet starts containers with the answer of an earlier
// Allocate.
func (a Allocator) WriteInfo(m pool.Member) error {
	if m.Type != config.NetDevice {
		return nil
	}
	if _, err := os.Stat(filepath.Join(a.DeviceInfo, DeviceInfoName(a.Pool.Resource, m.ID))); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := a.Host.deviceInfo(a.Pool.Resource, m, m.RDMA)
	if err != nil {
		return err
	}
	return writeAll(a.DeviceInfo, []File{*file})
}
