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
	"strings"

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

// Write replaces the file of a pod.
func Write(dir string, f File) error {
	path, err := path(dir, f.PodUID)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f.Version = Version
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return atomicwriter.WriteFile(path, data, 0o644)
}

// Remove removes the file of a pod unless it tells of another sandbox. What does
// not exist is no error.
func Remove(dir, podUID, containerID string) error {
	path, err := path(dir, podUID)
	if err != nil {
		return nil //nolint:nilerr // it was never written
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var f File
	if err == nil && json.Unmarshal(data, &f) == nil && f.ContainerID != containerID {
		return nil
	}
	return os.Remove(path)
}

func path(dir, podUID string) (string, error) {
	if podUID == "" || strings.HasPrefix(podUID, ".") || strings.ContainsAny(podUID, "/\x00") {
		return "", fmt.Errorf("pod UID %q: no file name", podUID)
	}
	return filepath.Join(dir, podUID+".json"), nil
}
