// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"go.yaml.in/yaml/v3"
	"tags.cncf.io/container-device-interface/specs-go"
)

// cdiVersion is the oldest version of the specification that has all that is used here, so
// that every runtime understands it.
const cdiVersion = "0.5.0"

const cdiPrefix = "sriov-dp-"

// CDI is a directory of CDI specifications, a file for each pool. A device is defined in
// one file only: runtimes take a name that two files define for undefined.
type CDI struct {
	dir string

	mu    sync.Mutex // Allocate calls and changes of pools both write
	files map[string]*cdiFile
}

// cdiFile is a specification as it lies on the disk.
type cdiFile struct {
	kind     string
	resource config.Resource
	devices  map[string]specs.Device // by ID
	text     []byte                  // nil if it may differ from devices
	members  []pool.Member           // that devices were made from; nil if unknown
}

// OpenCDI manages the specifications of pools in a directory, also those of an earlier run.
func OpenCDI(dir string) *CDI { return &CDI{dir: dir} }

func cdiClass(t config.DeviceType) string {
	return map[config.DeviceType]string{
		config.NetDevice: "net-pci", config.Accelerator: "net-accel", config.AuxNetDevice: "net-sf",
	}[t]
}

func cdiKind(p config.Pool) string { return p.Resource.Prefix + "/" + cdiClass(p.DeviceType) }

// Path is where the specification of a pool lies. Kind and file name are what the SR-IOV
// network device plugin has always used.
func (c *CDI) Path(p config.Pool) string {
	return filepath.Join(c.dir, fmt.Sprintf("%s%s-%s-%s.yaml", cdiPrefix, p.Resource.Prefix, cdiClass(p.DeviceType), p.Resource.Name))
}

// Device is the fully qualified name of a device of a pool.
func (c *CDI) Device(p config.Pool, id string) string { return cdiKind(p) + "=" + id }

// CDIPool is a pool that Update writes.
type CDIPool struct {
	Allocator
	List []pool.Member // its members, in order
}

// Update makes the files those of the pools. Of any other file only those devices stay that
// mayHold says a pod may hold as that resource, and that no pool defines: a pod's containers
// can start again, and nothing is defined twice. The map has the pools whose file could not
// be written.
func (c *CDI) Update(pools []CDIPool, mayHold func(r config.Resource, id string) bool) (map[config.Resource]error, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	failed := map[config.Resource]error{}
	if err := c.load(); err != nil {
		for _, p := range pools {
			failed[p.Pool.Resource] = err
		}
		return failed, nil
	}
	live, defined := map[string]*cdiFile{}, map[string]bool{}
	for i := range pools {
		p := &pools[i]
		f, err := c.render(p)
		if err != nil {
			failed[p.Pool.Resource] = err
		}
		live[c.Path(p.Pool)] = f
		for id := range f.devices {
			defined[f.kind+"="+id] = true
		}
	}
	var errs []error
	for path, f := range c.files { // what is defined elsewhere now goes first
		if live[path] != nil {
			continue
		}
		maps.DeleteFunc(f.devices, func(id string, _ specs.Device) bool {
			drop := defined[f.kind+"="+id] || !mayHold(f.resource, id)
			if drop {
				f.text, f.members = nil, nil
			}
			return drop
		})
		errs = append(errs, c.write(path, f))
	}
	for _, shrinking := range []bool{true, false} {
		for i := range pools {
			path := c.Path(pools[i].Pool)
			f, old := live[path], c.files[path]
			if grows(old, f) == shrinking {
				continue
			}
			if err := c.write(path, f); err != nil {
				failed[pools[i].Pool.Resource] = err
			}
		}
	}
	return failed, errors.Join(errs...)
}

// grows reports whether a file gets devices that it did not have.
func grows(old, now *cdiFile) bool {
	if old == nil {
		return true
	}
	for id := range now.devices {
		if _, had := old.devices[id]; !had {
			return true
		}
	}
	return false
}

// Leftovers reports whether there are definitions of devices that pods hold of pools that are
// no more.
func (c *CDI) Leftovers(pools []CDIPool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	live := 0
	for i := range pools {
		if c.files[c.Path(pools[i].Pool)] != nil {
			live++
		}
	}
	return len(c.files) > live
}

// render makes the file of a pool. Nothing is looked up for members that are as they were.
func (c *CDI) render(p *CDIPool) (*cdiFile, error) {
	f := &cdiFile{kind: cdiKind(p.Pool), resource: p.Pool.Resource, devices: make(map[string]specs.Device, len(p.List)), members: p.List}
	old := c.files[c.Path(p.Pool)]
	if old != nil && slices.EqualFunc(old.members, p.List, sameNodes) {
		f.devices, f.text = old.devices, old.text
		return f, nil
	}
	errs := []error{vendor(p.Pool.Resource.Prefix)}
	lookup := p.Host.fromTable()
	for _, m := range p.List {
		found, err := lookup.look(m, nil)
		if err != nil && old != nil { // it has lost its nodes, or is gone; a pod may hold it
			if d, known := old.devices[m.ID]; known {
				f.devices[m.ID] = d
				continue
			}
		}
		// A device that has lost its nodes is refused when it is asked for;
		// until then it must not keep the others out of the file.
		if err != nil && !isMissing(err) {
			errs = append(errs, fmt.Errorf("%s: %w", m.ID, err))
		}
		f.devices[m.ID] = definition(p.Pool, m.ID, found.nodes)
	}
	return f, errors.Join(errs...)
}

// vendor refuses what no runtime reads (CDI specification, "Kind"): the name before the slash
// begins with a letter. Prefixes of resources need not.
func vendor(prefix string) error {
	if prefix[0] >= '0' && prefix[0] <= '9' {
		return fmt.Errorf("resource prefix %s begins with a digit, which runtimes refuse in CDI names; use another, or no -use-cdi", prefix)
	}
	return nil
}

func isMissing(err error) bool { return errors.Is(err, ErrNoNode) || errors.Is(err, fs.ErrNotExist) }

// sameNodes reports whether a member would have the nodes that it had. What else may change
// them, such as a driver that was bound twice since, is found when the device is asked for.
func sameNodes(a, b pool.Member) bool {
	return a.ID == b.ID && a.Driver == b.Driver && slices.Equal(a.RDMA, b.RDMA) && slices.Equal(a.Bound, b.Bound) &&
		a.Selector.RDMA == b.Selector.RDMA && a.Selector.VDPA == b.Selector.VDPA && a.Selector.NeedVhostNet == b.Selector.NeedVhostNet
}

func definition(p config.Pool, id string, nodes []Node) specs.Device {
	d := specs.Device{Name: id}
	// A device needs at least one edit, also one that is only a netdev.
	d.ContainerEdits.Env = []string{"SRIOV_DEVICE_" + envSafe(id) + "=" + p.Resource.String()}
	for _, n := range nodes {
		d.ContainerEdits.DeviceNodes = append(d.ContainerEdits.DeviceNodes,
			&specs.DeviceNode{Path: n.Container, HostPath: n.Host, Permissions: "rw"})
	}
	return d
}

func envSafe(id string) string { return unsafeInEnv.ReplaceAllString(strings.ToUpper(id), "_") }

var unsafeInEnv = regexp.MustCompile(`[^A-Z0-9_]`)

// define brings the definitions of devices that are being given out up to date.
func (c *CDI) define(p config.Pool, nodes map[string][]Node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(); err != nil {
		return err
	}
	path := c.Path(p)
	f := c.files[path]
	if f == nil {
		f = &cdiFile{kind: cdiKind(p), resource: p.Resource, devices: map[string]specs.Device{}}
	}
	for id, n := range nodes {
		d := definition(p, id, n)
		if old, known := f.devices[id]; !known || !equalJSON(old, d) {
			f.devices[id], f.text = d, nil
		}
	}
	return c.write(path, f)
}

func equalJSON(a, b specs.Device) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// write brings a file up to date. It does nothing if the file would not change. A pool
// without devices has no file: a specification without devices is not valid.
func (c *CDI) write(path string, f *cdiFile) error {
	if len(f.devices) == 0 {
		delete(c.files, path)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	old := c.files[path]
	data := f.text
	if data == nil {
		var err error
		if data, err = f.marshal(); err != nil {
			return err
		}
	}
	if old != nil && bytes.Equal(old.text, data) {
		if _, err := os.Stat(path); err == nil {
			f.text = data
			c.files[path] = f
			return nil
		}
	}
	if err := publicDir(c.dir); err != nil {
		return fmt.Errorf("CDI specification: %w", err)
	}
	if err := replaceFile(path, data, 0o644); err != nil {
		return fmt.Errorf("CDI specification: %w", err)
	}
	f.text = data
	c.files[path] = f
	return nil
}

func (f *cdiFile) marshal() ([]byte, error) {
	spec := specs.Spec{Version: cdiVersion, Kind: f.kind}
	for _, id := range slices.Sorted(maps.Keys(f.devices)) {
		spec.Devices = append(spec.Devices, f.devices[id])
	}
	return json.MarshalIndent(spec, "", "  ") // JSON is YAML
}

// load reads the files that earlier runs left, once. One that cannot be understood defines
// nothing for a runtime either, and is left alone.
func (c *CDI) load() error {
	if c.files != nil {
		return nil
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("CDI specifications of an earlier run: %w", err)
	}
	removeTemporary(c.dir, cdiPrefix)
	files := map[string]*cdiFile{}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), cdiPrefix) {
			continue
		}
		path := filepath.Join(c.dir, e.Name())
		if !e.Type().IsRegular() {
			continue // a pipe would keep everybody waiting
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // somebody has removed it meanwhile
		}
		if err != nil {
			return fmt.Errorf("CDI specification of an earlier run: %w", err)
		}
		var spec specs.Spec
		prefix, class, ok := "", "", yaml.Unmarshal(data, &spec) == nil
		if ok {
			prefix, class, ok = strings.Cut(spec.Kind, "/")
		}
		name, fits := strings.CutPrefix(filepath.Base(path), cdiPrefix+prefix+"-"+class+"-")
		if !ok || !fits {
			continue
		}
		f := &cdiFile{
			kind: spec.Kind, text: data, devices: map[string]specs.Device{},
			resource: config.Resource{Prefix: prefix, Name: strings.TrimSuffix(name, filepath.Ext(name))},
		}
		for _, d := range spec.Devices {
			if edits := d.ContainerEdits; len(edits.DeviceNodes) > 0 || len(edits.Env) > 0 { // without any it spoils the file
				f.devices[d.Name] = d
			}
		}
		files[path] = f
	}
	c.files = files
	return nil
}
