// SPDX-License-Identifier: Apache-2.0

package prepare

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

	"github.com/moby/sys/atomicwriter"
	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	"tags.cncf.io/container-device-interface/specs-go"
)

// cdiVersion is the oldest version of the CDI specification that has what is used here.
const cdiVersion = "0.5.0"

// class of the CDI devices; their vendor is the driver's name.
const class = "vf"

// specPath is the CDI specification of a claim.
func (p *Preparer) specPath(c record.Claim) string {
	return filepath.Join(p.CDIDir, fmt.Sprintf("%s_claim_%s.json", p.Driver, c.UID))
}

// cdiName is the CDI device of a request: what its containers get of all its devices.
func (p *Preparer) cdiName(c record.Claim, r record.Request) string {
	return string(c.UID) + "_" + r.Base()
}

// Answer tells kubelet which CDI devices containers get. Devices of one request share
// one, which is named with the first.
func (p *Preparer) Answer(c record.Claim) []kubeletplugin.Device {
	var out []kubeletplugin.Device
	for _, r := range c.Requests {
		for i, d := range r.Devices {
			device := kubeletplugin.Device{
				Requests: []string{r.Name}, PoolName: p.Node, DeviceName: d.Name, ShareID: d.ShareID,
				Metadata: &kubeletplugin.DeviceMetadata{Attributes: p.metadata(d)},
			}
			if i == 0 && !r.AdminAccess {
				device.CDIDeviceIDs = []string{p.Driver + "/" + class + "=" + p.cdiName(c, r)}
			}
			out = append(out, device)
		}
	}
	return out
}

// metadata is what the metadata file says of a device besides its network.
func (p *Preparer) metadata(d record.Device) map[string]resourceapi.DeviceAttribute {
	text := func(s string) resourceapi.DeviceAttribute { return resourceapi.DeviceAttribute{StringValue: &s} }
	out := map[string]resourceapi.DeviceAttribute{"k8s.cni.cncf.io/deviceID": text(d.ID)}
	if name := d.Resource.String(); len(name) <= resourceapi.DeviceAttributeMaxValueLength {
		out["k8s.cni.cncf.io/resourceName"] = text(name)
	}
	if _, m, ok := p.Lookup(d.ID); ok {
		out["resource.kubernetes.io/pciBusID"] = text(m.Address.String())
	}
	return out
}

// writeFiles writes the device-info files for CNI plugins and the CDI specification for
// the runtime, from what the host says now. Those that are right already stay.
func (p *Preparer) writeFiles(c record.Claim) error {
	spec := specs.Spec{Version: cdiVersion, Kind: p.Driver + "/" + class}
	whole, err := p.variables(c.Requests) // and device-info files
	if err != nil {
		return err
	}
	if err := p.at("device info"); err != nil {
		return err
	}
	for _, r := range c.Requests {
		if r.AdminAccess {
			continue
		}
		own, err := p.variables([]record.Request{r})
		if err != nil {
			return err
		}
		env := whole.env
		if c.PerRequest {
			env = own.env
		}
		d := specs.Device{Name: p.cdiName(c, r)}
		d.ContainerEdits.Env = append(sorted(env), compatible(r)...)
		for _, n := range own.nodes {
			d.ContainerEdits.DeviceNodes = append(d.ContainerEdits.DeviceNodes,
				&specs.DeviceNode{Path: n.Container, HostPath: n.Host, Permissions: "rw"})
		}
		spec.Devices = append(spec.Devices, d)
	}
	if len(spec.Devices) == 0 {
		return nil
	}
	if err := p.write(p.specPath(c), spec); err != nil {
		return err
	}
	return p.at("CDI specification")
}

func (p *Preparer) write(path string, spec specs.Spec) error {
	data, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return err
	}
	if now, err := os.ReadFile(path); err == nil && bytes.Equal(now, data) {
		return nil // the runtime reads the directory again for every change
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("CDI specification: %w", err)
	}
	if err := atomicwriter.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("CDI specification: %w", err)
	}
	return nil
}

// grant is what containers get with devices.
type grant struct {
	env   map[string]string
	nodes []allocation.Node
}

// variables composes, resource by resource, what the device plugin would answer for the
// devices of some requests.
func (p *Preparer) variables(requests []record.Request) (grant, error) {
	type group struct {
		pool    config.Pool
		ids     []string
		members map[string]pool.Member
	}
	var groups []*group
	for _, r := range requests {
		if r.AdminAccess {
			continue
		}
		for _, d := range r.Devices {
			in, m, ok := p.Lookup(d.ID)
			if !ok {
				return grant{}, fmt.Errorf("request %s: %s: %w", r.Name, d.ID, ErrNoDevice)
			}
			in.Resource = d.Resource // of the time it was given out
			m.Selector.NeedVhostNet = m.Selector.NeedVhostNet || r.VhostNet
			if d.Bound != "" { // the claim's choice, not the pool's
				m.Selector.Drivers = nil
			}
			i := slices.IndexFunc(groups, func(g *group) bool { return g.pool.Resource == in.Resource })
			if i < 0 {
				groups, i = append(groups, &group{pool: in, members: map[string]pool.Member{}}), len(groups)
			}
			groups[i].ids = append(groups[i].ids, d.ID)
			groups[i].members[d.ID] = m
		}
	}
	out := grant{env: map[string]string{}}
	for _, g := range groups {
		a := allocation.Allocator{Host: p.Host, Pool: g.pool, Members: g.members, DeviceInfo: p.DeviceInfoDir}
		answer, err := a.Allocate(g.ids)
		if err != nil {
			return grant{}, err
		}
		for k, v := range answer.Env {
			out.env[k] = v
		}
		for _, n := range answer.Nodes {
			if !slices.Contains(out.nodes, n) {
				out.nodes = append(out.nodes, n)
			}
		}
	}
	return out, nil
}

func sorted(env map[string]string) []string {
	var out []string
	for k, v := range env {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out
}

// compatible are the variables that containers written for dra-driver-sriov read.
func compatible(r record.Request) []string {
	var out []string
	for _, d := range r.Devices {
		out = append(out, "SRIOVNETWORK_VF_DEVICE_"+strings.ReplaceAll(d.Name, "-", "_")+"="+d.ID)
	}
	if r.Network != "" {
		_, name, _ := strings.Cut(r.Network, "/")
		out = append(out, "SRIOVNETWORK_NET_ATTACH_DEF_NAME="+name)
	}
	return out
}

// removeFiles removes what writeFiles made, and parts of it that a process which was killed
// has left.
func (p *Preparer) removeFiles(c record.Claim) error {
	paths := []string{p.specPath(c)}
	for _, r := range c.Requests {
		if r.AdminAccess {
			continue
		}
		for _, d := range r.Devices {
			info := filepath.Join(p.DeviceInfoDir, allocation.DeviceInfoName(d.Resource, d.ID))
			paths = append(append(paths, info), found(p.DeviceInfoDir, part+filepath.Base(info)+"*")...)
		}
	}
	return errors.Join(remove(paths), p.removeParts(c.UID))
}

// part is how names of unfinished files begin, those of packages atomicwriter and allocation.
const part = ".tmp-"

// removeParts removes unfinished files that have a claim's UID in their names.
func (p *Preparer) removeParts(uid types.UID) error {
	return remove(slices.Concat(
		found(p.Store.Dir, part+string(uid)+".json*"),
		found(p.CDIDir, part+filepath.Base(p.specPath(record.Claim{UID: uid}))+"*"),
		found(p.CDIDir, part+p.Driver+"_metadata_"+string(uid)+"_*"),
	))
}

// found lists files by a pattern that has no special characters but those meant.
func found(dir, pattern string) []string {
	paths, _ := filepath.Glob(filepath.Join(dir, pattern)) // fails for a bad pattern only
	return paths
}

// remove removes files; one that is not there is no error.
func remove(paths []string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
