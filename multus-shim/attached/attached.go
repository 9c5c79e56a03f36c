// SPDX-License-Identifier: Apache-2.0

// Package attached tells the driver of a resource claim (dynamic resource
// allocation) what became of the devices that it gave to a pod: one file per pod
// with the interface, addresses and MAC of each attachment that has a device. The
// driver puts them into the claim's status.
package attached

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/moby/sys/atomicwriter"
)

// Version of the format.
const Version = 1

// File is what is written.
type File struct {
	Version      int          `json:"version"`
	PodUID       string       `json:"podUID"`
	PodNamespace string       `json:"podNamespace"`
	PodName      string       `json:"podName"`
	ContainerID  string       `json:"containerID"` // of the sandbox: a pod may get another
	Attachments  []Attachment `json:"attachments"`
}

// Attachment is one network with a device.
type Attachment struct {
	Network   string   `json:"network"` // "namespace/name" of the NAD
	DeviceID  string   `json:"deviceID"`
	Interface string   `json:"interface"`
	MAC       string   `json:"mac,omitempty"`
	IPs       []string `json:"ips,omitempty"` // with prefix length
	MTU       int      `json:"mtu,omitempty"`
}

// Of describes an attachment by its CNI result, of any version.
func Of(network, deviceID, ifname string, result json.RawMessage) (Attachment, error) {
	a := Attachment{Network: network, DeviceID: deviceID, Interface: ifname}
	var v struct{ CNIVersion string }
	if err := json.Unmarshal(result, &v); err != nil {
		return a, err
	}
	parsed, err := create.Create(v.CNIVersion, result)
	if err != nil {
		return a, err
	}
	r, err := types100.NewResultFromResult(parsed)
	if err != nil {
		return a, err
	}
	for _, nic := range r.Interfaces {
		if nic != nil && nic.Name == ifname && (nic.Sandbox != "" || a.MAC == "") {
			a.MAC, a.MTU = nic.Mac, nic.Mtu
		}
	}
	for _, ip := range r.IPs {
		if ip != nil && ip.Address.IP != nil {
			a.IPs = append(a.IPs, ip.Address.String())
		}
	}
	return a, nil
}

// Write adds attachments to the file of a pod, whose sandbox may be attached more than once, with
// other interfaces each time. Attachments of another sandbox of the pod are dropped.
func Write(dir string, f File) error {
	path, err := path(dir, f.PodUID)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if old, err := read(path); err == nil && old.ContainerID == f.ContainerID {
		f.Attachments = append(old.without(interfaces(f.Attachments)), f.Attachments...)
	}
	return write(path, f)
}

func write(path string, f File) error {
	f.Version = Version
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return atomicwriter.WriteFile(path, data, 0o644)
}

func read(path string) (File, error) {
	var f File
	data, err := os.ReadFile(path)
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(data, &f)
}

func interfaces(attachments []Attachment) []string {
	var names []string
	for _, a := range attachments {
		names = append(names, a.Interface)
	}
	return names
}

// without are the attachments of other interfaces.
func (f File) without(interfaces []string) []Attachment {
	return slices.DeleteFunc(slices.Clone(f.Attachments), func(a Attachment) bool { return slices.Contains(interfaces, a.Interface) })
}

// Remove takes attachments of a sandbox out of the file of its pod, and the file with the
// last of them. A file of another sandbox stays. A file that does not exist is no error.
func Remove(dir, podUID, containerID string, interfaces []string) error {
	path, err := path(dir, podUID)
	if err != nil {
		return nil //nolint:nilerr // it was never written
	}
	f, err := read(path)
	if err == nil {
		if f.ContainerID != containerID {
			return nil
		}
		if f.Attachments = f.without(interfaces); len(f.Attachments) > 0 {
			return write(path, f)
		}
	}
	err = os.Remove(path) // also where it cannot be read
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, syscall.ENOTDIR) {
		return nil // it was never written, or its driver has removed it
	}
	return err
}

func path(dir, podUID string) (string, error) {
	if podUID == "" || strings.HasPrefix(podUID, ".") || strings.ContainsAny(podUID, "/\x00") {
		return "", fmt.Errorf("pod UID %q: no file name", podUID)
	}
	return filepath.Join(dir, podUID+".json"), nil
}
