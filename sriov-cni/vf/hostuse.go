// SPDX-License-Identifier: Apache-2.0

package vf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/file"
)

// deviceInfoDir is where device plugins describe each device that they give to
// pods, https://github.com/k8snetworkplumbingwg/device-info-spec.
const deviceInfoDir = "var/run/k8s.cni.cncf.io/devinfo/dp"

// Interface reads the VF's interface in the host's namespace, zero for a VF without.
// It is an error if the host itself uses one of a function's interfaces.
func (h *Host) Interface(host *link.Conn, d Device) (first link.Link, err error) {
	for i, name := range d.Netdevs {
		l, err := h.read(host, d.Address, name)
		if err == nil {
			err = h.RefuseHostUse(host, d.Address, l)
		}
		if errors.Is(err, link.ErrNotFound) {
			err = cnierr.Busy(fmt.Errorf("interface %s of %s is being renamed or moved: %w", name, d.Address, err), "the next try finds it")
		}
		if err != nil {
			return first, err
		}
		if i == 0 {
			first = l
		}
	}
	return first, nil
}

// RefuseHostUse is an error if the host itself uses a function's interface: the pod
// would get it, and the host lose it. A stacked interface or a bridge, a global address,
// a default route tell so. The error wraps link.ErrNotFound if it is not there any more.
func (h *Host) RefuseHostUse(host *link.Conn, a libsriov.Address, l link.Link) error {
	use, err := h.hostUse(host, a, l)
	if err != nil || use == "" {
		return err
	}
	return cnierr.New(cnierr.Device, fmt.Errorf("device %s is in use by the host: its interface %s %s", a, l.Name, use),
		"deviceID must name a VF that is meant for pods; if this one is, have the host's network manager leave "+l.Name+" alone")
}

// hostUse says what the host uses a function's interface for; "" is nothing.
func (h *Host) hostUse(host *link.Conn, a libsriov.Address, l link.Link) (string, error) {
	uppers, err := h.sysfs.NetdevUppers(a, l.Name)
	switch {
	case errors.Is(err, libsriov.ErrNoNetdev):
		return "", fmt.Errorf("%w: %w", err, link.ErrNotFound)
	case err != nil:
		return "", err
	case len(uppers) > 0:
		return "is a part of " + uppers[0], nil
	}
	if l.Master != 0 {
		return fmt.Sprintf("is a part of interface %d", l.Master), nil
	}
	addresses, err := host.GlobalAddresses(l.Index)
	if err != nil {
		return "", err
	}
	if len(addresses) > 0 {
		return "has the address " + addresses[0].String(), nil
	}
	if !l.Up() {
		return "", nil // without routes then
	}
	defaults, err := host.DefaultRoutes()
	if slices.Contains(defaults, l.Index) {
		return "has a default route", nil
	}
	return "", err
}

// RefuseUnlisted is an error if nobody vouches that a function which is no VF of
// a PF in sight is meant for pods: neither a device plugin, whose device-info
// file or registration with kubelet names it, nor the administrator.
func (h *Host) RefuseUnlisted(a libsriov.Address) error {
	if h.Node.lists(a) {
		return nil
	}
	known, err := filepath.Glob(h.path(filepath.Join(deviceInfoDir, "*-"+a.String()+"-device.json")))
	if err != nil || len(known) > 0 {
		return err
	}
	k, err := h.readKubelet(a)
	if err == nil && k.registered {
		return nil
	}
	return cnierr.New(cnierr.Device,
		errors.Join(fmt.Errorf("failed to get VF information: %s has no physfn, and no device plugin offers it to pods", a), err),
		"deviceID must be the address of a VF; in a virtual machine, have the device plugin offer the function, or list it under functions in "+NodeConfigPath)
}

// RefuseForeign is an error if kubelet has given a device to another pod than
// the caller's, or if its record cannot be read at this moment. What is not known to be
// another's passes: networks may name devices that no device plugin handles.
func (h *Host) RefuseForeign(a libsriov.Address, podUID string) error {
	if podUID == "" {
		return nil // who asks is not known
	}
	k, err := h.readKubelet(a)
	if errors.As(err, new(*fs.PathError)) { // not read, unlike read and not understood
		return cnierr.Busy(err, "whose device it is is not known; see the node's disk and limits")
	}
	k.pods = slices.DeleteFunc(k.pods, h.ended)
	if err != nil || len(k.pods) == 0 || slices.Contains(k.pods, podUID) {
		return nil
	}
	return cnierr.New(cnierr.Device, fmt.Errorf("device %s was given to pod %s, not to this one, %s", a, k.pods[0], podUID),
		"leave deviceID out of the network's configuration: the runtime fills in the device that kubelet gave to the pod")
}

// ended reports whether a pod is certainly gone. Kubelet has a directory for each of its
// pods, while its record of devices lists those that ended until it is next written.
func (h *Host) ended(podUID string) bool {
	pods := h.path(filepath.Join(h.Node.KubeletDirectory, "pods"))
	if _, err := os.Stat(pods); err != nil {
		return false
	}
	_, err := os.Stat(filepath.Join(pods, filepath.Base(podUID)))
	return errors.Is(err, fs.ErrNotExist)
}

// kubeletDevice is what kubelet knows of one device.
type kubeletDevice struct {
	registered bool     // a device plugin offers it
	pods       []string // UIDs of those it was given to
}

// readKubelet reads kubelet's record of devices. It is a file, for this plugin
// runs while kubelet may be down; its format is that of
// pkg/kubelet/cm/devicemanager/checkpoint in Kubernetes since 1.20.
func (h *Host) readKubelet(a libsriov.Address) (kubeletDevice, error) {
	b, err := file.Read(h.path(filepath.Join(h.Node.KubeletDirectory, "device-plugins/kubelet_internal_checkpoint")))
	id := a.String()
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Contains(b, []byte(id)) {
		return kubeletDevice{}, nil
	}
	var checkpoint struct {
		Data struct {
			PodDeviceEntries []struct {
				PodUID    string
				DeviceIDs map[string][]string // by NUMA node
			}
			RegisteredDevices map[string][]string
		}
	}
	if err == nil {
		err = json.Unmarshal(b, &checkpoint)
	}
	if err != nil {
		return kubeletDevice{}, fmt.Errorf("kubelet's record of devices: %w", err)
	}
	var k kubeletDevice
	for _, ids := range checkpoint.Data.RegisteredDevices {
		k.registered = k.registered || slices.Contains(ids, id)
	}
	for _, e := range checkpoint.Data.PodDeviceEntries {
		for _, ids := range e.DeviceIDs {
			if slices.Contains(ids, id) {
				k.registered = true
				k.pods = append(k.pods, e.PodUID)
			}
		}
	}
	return k, nil
}
