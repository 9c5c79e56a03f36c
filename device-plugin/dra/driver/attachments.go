// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
)

// attachmentsVersion of the files that the meta plugin writes.
const attachmentsVersion = 1

// maxAttachments bounds what is read of a file, in bytes.
const maxAttachments = 1 << 20

// attachments is what the meta plugin says of a pod: the file PODUID.json.
type attachments struct {
	Version     int          `json:"version"`
	PodUID      types.UID    `json:"podUID"`
	Attachments []attachment `json:"attachments"`
}

type attachment struct {
	Network   string   `json:"network"` // namespace/name
	DeviceID  string   `json:"deviceID"`
	Interface string   `json:"interface"`
	MAC       string   `json:"mac"`
	IPs       []string `json:"ips"` // with prefix length
}

// OnDetach has a function called when a pod's networks are gone, before WatchAttachments
// begins.
func (d *Driver) OnDetach(f func()) { d.onDetach = f }

// WatchAttachments writes what becomes of pods' networks into the status of their claims
// until ctx ends.
func (d *Driver) WatchAttachments(ctx context.Context) error {
	dir := d.opts.AttachmentsDir
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	if err := watchDir(w, dir); err != nil {
		return err
	}
	watched := true
	again := map[string]bool{} // files that could not be reported
	report := func(paths ...string) {
		for _, path := range paths {
			delete(again, path)
			if !d.attached(ctx, path) {
				again[path] = true
			}
		}
	}
	all := func() []string {
		paths, _ := filepath.Glob(filepath.Join(dir, "*.json")) // fails for a bad pattern only
		return paths
	}
	renew := func() { // the directory was removed, perhaps to be made anew
		err := watchDir(w, dir)
		if watched = err == nil; !watched {
			d.log.Warn("attachments of pods are not watched; tried again", "dir", dir, "err", err)
			return
		}
		report(all()...)
	}
	report(all()...)
	ticker := time.NewTicker(reportAgain)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.Events:
			switch {
			case e.Name == dir && (e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)):
				renew()
			case e.Has(fsnotify.Create) || e.Has(fsnotify.Write):
				report(e.Name)
			case e.Has(fsnotify.Remove) && d.onDetach != nil:
				d.onDetach()
			}
		case <-ticker.C:
			if !watched {
				renew()
			}
			report(slices.Collect(maps.Keys(again))...)
		case err := <-w.Errors: // events were lost
			d.log.Warn("watch attachments of pods", "dir", dir, "err", err)
			report(all()...)
		}
	}
}

// watchDir watches the directory that has this path now.
func watchDir(w *fsnotify.Watcher, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	_ = w.Remove(dir) // of an earlier one; mostly there is none any more
	return w.Add(dir)
}

// reportAgain is how often what could not be written into a claim's status is tried.
const reportAgain = 5 * time.Second

// attached writes one pod's file into its claims. It returns false if it has to be tried
// again.
func (d *Driver) attached(ctx context.Context, path string) (done bool) {
	if !strings.HasSuffix(path, ".json") {
		return true // a replacement in the making
	}
	a, err := readAttachments(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		d.log.Warn("attachments of a pod are not readable", "err", err)
		return true
	}
	claims, err := d.preparer.Store.All()
	unreadable := ""
	if err != nil {
		unreadable = err.Error()
	}
	if unreadable != "" && unreadable != d.unreadable {
		d.log.Warn("networks of pods whose claims' records cannot be read are not told", "err", err)
	}
	d.unreadable = unreadable
	// What belongs to no claim may belong to one that cannot be read.
	done = err == nil || slices.ContainsFunc(claims, func(c record.Claim) bool { return c.Pod.UID == a.PodUID && c.Prepared })
	for _, c := range claims {
		if c.Pod.UID != a.PodUID || !c.Prepared {
			continue
		}
		if err := d.report(ctx, c, a); err != nil {
			d.log.Error("network of a claim's device is not in its status", "claim", c.Namespace+"/"+c.Name, "pod", c.Pod.Name, "err", err)
			done = false
		}
	}
	return done
}

func readAttachments(path string) (attachments, error) {
	var a attachments
	f, err := os.Open(path)
	if err != nil {
		return a, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxAttachments+1))
	switch {
	case err != nil:
		return a, err
	case len(data) > maxAttachments:
		return a, fmt.Errorf("%s: more than %d bytes", path, maxAttachments)
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return a, fmt.Errorf("%s: %w", path, err)
	}
	if a.Version != attachmentsVersion {
		return a, fmt.Errorf("%s: version %d, want %d", path, a.Version, attachmentsVersion)
	}
	return a, nil
}

// report writes the networks of one claim's devices into its status and its metadata
// files.
func (d *Driver) report(ctx context.Context, c record.Claim, a attachments) error {
	networks := map[string]*resourceapi.NetworkDeviceData{} // by name of the device
	for _, r := range c.Requests {
		if r.AdminAccess {
			continue
		}
		for _, device := range r.Devices {
			i := slices.IndexFunc(a.Attachments, func(x attachment) bool { return x.DeviceID == device.ID })
			if i >= 0 {
				networks[device.Name] = networkData(a.Attachments[i])
			}
		}
	}
	if len(networks) == 0 {
		return nil
	}
	// The files first: a container that has started keeps those that it was given.
	return errors.Join(d.updateMetadata(ctx, c, networks), d.updateStatus(ctx, c, networks))
}

// maxIPs is the API's limit of addresses a device.
const maxIPs = 16

// networkData is one attachment in the words of the API. What it refuses is left out: it would
// refuse the rest, too.
func networkData(a attachment) *resourceapi.NetworkDeviceData {
	out := &resourceapi.NetworkDeviceData{}
	if len(a.Interface) <= resourceapi.NetworkDeviceDataInterfaceNameMaxLength {
		out.InterfaceName = a.Interface
	}
	if len(a.MAC) <= resourceapi.NetworkDeviceDataHardwareAddressMaxLength {
		out.HardwareAddress = a.MAC
	}
	for _, text := range a.IPs {
		p, err := netip.ParsePrefix(text)
		if err == nil && !p.Addr().Is4In6() && len(out.IPs) < maxIPs && !slices.Contains(out.IPs, p.String()) {
			out.IPs = append(out.IPs, p.String())
		}
	}
	return out
}

func (d *Driver) updateStatus(ctx context.Context, c record.Claim, networks map[string]*resourceapi.NetworkDeviceData) error {
	return d.changeStatus(ctx, c.Namespace, c.Name, c.UID, func(claim *resourceapi.ResourceClaim) {
		for name, data := range networks {
			s := d.statusOf(claim, name)
			s.NetworkData = data
			setReady(s, metav1.Condition{
				Status: metav1.ConditionTrue, Reason: "NetworkAttached", Message: "interface " + data.InterfaceName + " is in the pod",
			})
		}
	})
}

// updateMetadata adds the network to the metadata files of the claim's requests.
func (d *Driver) updateMetadata(ctx context.Context, c record.Claim, networks map[string]*resourceapi.NetworkDeviceData) error {
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	// It may have ended, and the files may be of another claim of its name by now.
	if now, err := d.preparer.Store.Load(c.UID); err != nil || now == nil || !now.Prepared {
		return err
	}
	byRequest := map[string][]kubeletplugin.Device{}
	touched := map[string]bool{}
	for _, device := range d.preparer.Answer(c) {
		r := device.Requests[0]
		if data := networks[device.DeviceName]; data != nil {
			device.Metadata.NetworkData, touched[r] = data, true
		}
		byRequest[r] = append(byRequest[r], device)
	}
	d.mu.Lock()
	helper := d.helper
	d.mu.Unlock()
	if helper == nil && len(touched) > 0 {
		return errors.New("not registered with kubelet yet")
	}
	var errs []error
	for r := range touched {
		errs = append(errs, helper.UpdateRequestMetadata(ctx, c.Namespace, c.Name, c.UID, r, byRequest[r]))
	}
	return errors.Join(errs...)
}
