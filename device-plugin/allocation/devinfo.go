package allocation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/atomicwriter"
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
		if err := atomicwriter.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o444); err != nil {
			return fmt.Errorf("write device info: %w", err)
		}
	}
	return nil
}

// publicDir makes a directory that others read, whatever the umask is.
func publicDir(dir string) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := publicDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// PruneDeviceInfo removes the files of a pool's devices that no pod holds.
func PruneDeviceInfo(dir string, r config.Resource, isHeld func(id string) bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		id, mine := strings.CutPrefix(e.Name(), deviceInfoPrefix(r))
		id, isInfo := strings.CutSuffix(id, deviceInfoSuffix)
		if mine && isInfo && !isHeld(id) && isDeviceID(id) {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
