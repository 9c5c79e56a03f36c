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
	"strings"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/file"
	"golang.org/x/sys/unix"
)

const (
	// deviceInfoDir is where device plugins describe each device that they give to
	// pods, https://github.com/k8snetworkplumbingwg/device-info-spec.
	deviceInfoDir = "var/run/k8s.cni.cncf.io/devinfo/dp"

	// Kubelet's own records. They are files, for this plugin runs while kubelet may be down.
	// Both are written before a pod's sandbox is made. That of claims is below kubelet's
	// directory; where that of devices is, see deviceRecords.
	deviceRecord = "device-plugins/kubelet_internal_checkpoint" // pkg/kubelet/cm/devicemanager/checkpoint, since Kubernetes 1.20
	claimRecord  = "dra_manager_state"                          // pkg/kubelet/cm/dra/state, since Kubernetes 1.32
)

// given is what kubelet's records say of one device.
type given struct {
	offered bool     // by a device plugin, to pods
	pods    []string // UIDs of those that have it of the device plugin
	claimed []string // UIDs of those that have it by a claim
}

// RefuseUnlisted returns an error for a function without physfn (as a VF has in a virtual
// machine) unless it is known to be for pods: by a device plugin's device-info file or
// registration with kubelet, by a claim, or by functions of the node's file.
func (h *Host) RefuseUnlisted(a libsriov.Address) error {
	if h.Node.lists(a) {
		return nil
	}
	known, err := filepath.Glob(h.path(filepath.Join(deviceInfoDir, "*-"+a.String()+"-device.json")))
	if err != nil || len(known) > 0 {
		return err
	}
	g, err := h.readGiven(a)
	if err == nil && (g.offered || len(g.claimed) > 0) {
		return nil
	}
	return cnierr.New(cnierr.Device,
		errors.Join(fmt.Errorf("failed to get VF information: %s has no physfn, and no device plugin offers it to pods", a), err),
		"deviceID must be the address of a VF; in a virtual machine, have the device plugin offer the function, or list it under functions in "+NodeConfigPath)
}

// RefuseForeign is an error if kubelet has given a device to another pod than the caller's,
// if a device plugin offers it and kubelet has not given it to this pod, or if that cannot be
// found out at this moment. A device that is in neither of kubelet's records passes, unless
// the administrator says otherwise: networks may name devices that nobody hands out.
func (h *Host) RefuseForeign(a libsriov.Address, podUID string) error {
	if podUID == "" && !h.Node.OnlyGiven {
		return nil // who asks is not known
	}
	g, err := h.readGiven(a)
	if err != nil {
		return cnierr.Busy(err, "whose device it is is not known; see the node's disk and limits, and kubelet's log")
	}
	if podUID != "" && (slices.Contains(g.pods, podUID) || slices.Contains(g.claimed, podUID)) {
		return nil
	}
	const hint = "leave deviceID out of the network's configuration: the runtime fills in the device that kubelet gave to the pod"
	if !g.offered { // or the former pod's word is what the device plugin goes by, too
		g.pods = slices.DeleteFunc(g.pods, func(uid string) bool { return h.ended(uid, podUID) })
	}
	if others := slices.Concat(g.pods, g.claimed); len(others) > 0 {
		return cnierr.New(cnierr.Device, fmt.Errorf("device %s was given to pod %s, not to this one, %s", a, others[0], podUID), hint)
	}
	if g.offered || h.Node.OnlyGiven {
		return cnierr.New(cnierr.Device, fmt.Errorf("device %s was not given to this pod, %s", a, podUID), hint)
	}
	return nil
}

// ended reports whether a pod is certainly gone. The record of devices lists pods that have
// ended until it is next written, which without a device plugin may be never. Kubelet has a
// directory for each of its pods, but makes it some time after the record lists the pod: so
// its lack tells something only if kubelet has begun with the caller's pod since.
func (h *Host) ended(podUID, caller string) bool {
	dir := filepath.Join(h.Node.KubeletDirectory, "pods")
	if _, err := os.Lstat(h.path(filepath.Join(dir, filepath.Base(podUID)))); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	var begun unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, h.path(filepath.Join(dir, filepath.Base(caller))), 0, unix.STATX_BTIME, &begun)
	if err != nil || begun.Mask&unix.STATX_BTIME == 0 {
		return false
	}
	for _, path := range h.deviceRecords() {
		var record unix.Statx_t
		err := unix.Statx(unix.AT_FDCWD, h.path(path), 0, unix.STATX_MTIME, &record)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || begun.Btime.Sec <= record.Mtime.Sec {
			return false
		}
	}
	return true
}

// deviceRecords are the places of the device manager's record: below /var/lib/kubelet, which
// kubelet has built in (DevicePluginPath of k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1)
// wherever its root directory is, and below the node's name of it: kubelet may see that as
// /var/lib/kubelet.
func (h *Host) deviceRecords() []string {
	return slices.Compact([]string{
		filepath.Join(h.Node.KubeletDirectory, deviceRecord), filepath.Join(defaultKubeletDirectory, deviceRecord),
	})
}

// readGiven reads kubelet's records of a device. What is in a record but cannot be
// understood is an error.
func (h *Host) readGiven(a libsriov.Address) (g given, err error) {
	for _, path := range h.deviceRecords() {
		if err := h.readDevices(path, a.String(), &g); err != nil {
			return g, err
		}
	}
	// Drivers of SR-IOV name a device by its address, in the form of a DNS label.
	name := strings.NewReplacer(":", "-", ".", "-").Replace(a.String())
	var outer struct{ Data string }
	if err := h.readRecord(filepath.Join(h.Node.KubeletDirectory, claimRecord), name, forms[claimRecord], &outer); err != nil || outer.Data == "" {
		return g, err
	}
	var claims struct {
		ClaimInfoStateList []struct {
			PodUIDs     map[string]any
			DriverState map[string]struct{ Devices []struct{ DeviceName string } }
		}
	}
	if err := json.Unmarshal([]byte(outer.Data), &claims); err != nil {
		return g, fmt.Errorf("kubelet's record of claims: %w", err)
	}
	for _, c := range claims.ClaimInfoStateList {
		for _, driver := range c.DriverState {
			if !slices.ContainsFunc(driver.Devices, func(d struct{ DeviceName string }) bool { return d.DeviceName == name }) {
				continue
			}
			for uid := range c.PodUIDs {
				g.claimed = append(g.claimed, uid)
			}
		}
	}
	return g, nil
}

// readDevices adds what a record of the device manager says of a device.
func (h *Host) readDevices(path, id string, g *given) error {
	var devices struct {
		Data struct {
			PodDeviceEntries []struct {
				PodUID    string
				DeviceIDs map[string][]string // by NUMA node
			}
			RegisteredDevices map[string][]string
		}
	}
	if err := h.readRecord(path, id, forms[deviceRecord], &devices); err != nil {
		return err
	}
	for _, ids := range devices.Data.RegisteredDevices {
		g.offered = g.offered || slices.Contains(ids, id)
	}
	for _, e := range devices.Data.PodDeviceEntries {
		for _, ids := range e.DeviceIDs {
			if slices.Contains(ids, id) {
				g.pods = append(g.pods, e.PodUID)
			}
		}
	}
	return nil
}

// forms are what the records of kubelets have, also with nothing in them: that of claims had a
// version before Kubernetes 1.32. What has none of these, such as {}, tells nothing.
var forms = map[string][]string{
	deviceRecord: {`"PodDeviceEntries"`}, claimRecord: {"ClaimInfoStateList", `"version"`},
}

// readRecord decodes a record of kubelet's; nothing if it is not there or does not have name.
func (h *Host) readRecord(path, name string, form []string, to any) error {
	b, err := file.Read(h.path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	known := slices.ContainsFunc(form, func(key string) bool { return bytes.Contains(b, []byte(key)) })
	switch {
	case err != nil:
	case known && !bytes.Contains(b, []byte(name)) && json.Valid(b):
		return nil
	default:
		if err = json.Unmarshal(b, to); err == nil && !known {
			err = fmt.Errorf("it has none of %s, which kubelets write", strings.Join(form, ", "))
		}
	}
	if err != nil {
		return fmt.Errorf("kubelet's record of devices, %s: %w", path, err)
	}
	return nil
}
