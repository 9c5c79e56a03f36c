package allocation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/atomicwriter"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/libsriov"
	"tags.cncf.io/container-device-interface/specs-go"
)

// cdiVersion is the oldest version of the specification that has all we use, so
// that every runtime understands it.
const cdiVersion = "0.5.0"

const cdiPrefix = "sriov-dp-"

// Spec is the CDI specification file of a pool.
type Spec struct {
	path, kind string

	mu      sync.Mutex // Allocate calls and changes of the pool both write
	written []byte     // what the file holds since the last Write
}

// NewSpec names the file of a pool in a CDI directory. Kind and file name are
// what the SR-IOV network device plugin has always used.
func NewSpec(dir string, p config.Pool) *Spec {
	class := map[config.DeviceType]string{
		config.NetDevice: "net-pci", config.Accelerator: "net-accel", config.AuxNetDevice: "net-sf",
	}[p.DeviceType]
	return &Spec{
		path: filepath.Join(dir, fmt.Sprintf("%s%s-%s-%s.yaml", cdiPrefix, p.Resource.Prefix, class, p.Resource.Name)),
		kind: p.Resource.Prefix + "/" + class,
	}
}

// Device is the fully qualified name of a device.
func (s *Spec) Device(id string) string { return s.kind + "=" + id }

// Path is where the file lies.
func (s *Spec) Path() string { return s.path }

// Write brings the file up to date with the pool and the host. It does nothing
// if the file would not change. A pool without devices has no file: a
// specification without devices is not valid.
func (s *Spec) Write(a Allocator) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(a.Members) == 0 {
		return s.remove()
	}
	data, err := s.render(a)
	if err != nil {
		return err
	}
	if bytes.Equal(data, s.written) {
		if _, err := os.Stat(s.path); err == nil {
			return nil
		}
	}
	if err := publicDir(filepath.Dir(s.path)); err != nil {
		return err
	}
	if err := atomicwriter.WriteFile(s.path, data, 0o644); err != nil {
		return fmt.Errorf("write CDI specification: %w", err)
	}
	s.written = data
	return nil
}

func (s *Spec) render(a Allocator) ([]byte, error) {
	spec := specs.Spec{Version: cdiVersion, Kind: s.kind}
	for _, m := range a.Members {
		d := specs.Device{Name: m.ID}
		// A device needs at least one edit, also one that is only a netdev.
		d.ContainerEdits.Env = []string{"SRIOV_DEVICE_" + envSafe(m.ID) + "=" + a.Pool.Resource.String()}
		f, err := a.Host.look(m, nil)
		// A device that has lost its nodes is refused when it is asked for;
		// until then it must not keep the others out of the file.
		if err != nil && !errors.Is(err, ErrNoNode) && !errors.Is(err, libsriov.ErrNoDevice) {
			return nil, err
		}
		for _, n := range f.nodes {
			d.ContainerEdits.DeviceNodes = append(d.ContainerEdits.DeviceNodes,
				&specs.DeviceNode{Path: n.Container, HostPath: n.Host, Permissions: "rw"})
		}
		spec.Devices = append(spec.Devices, d)
	}
	slices.SortFunc(spec.Devices, func(a, b specs.Device) int { return strings.Compare(a.Name, b.Name) })
	return json.MarshalIndent(spec, "", "  ") // JSON is YAML
}

func envSafe(id string) string { return unsafeInEnv.ReplaceAllString(strings.ToUpper(id), "_") }

var unsafeInEnv = regexp.MustCompile(`[^A-Z0-9_]`)

func (s *Spec) remove() error {
	s.written = nil
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// PruneCDI removes the specifications of pools that are not in keep, unless a
// pod holds one of their devices: its containers could not start again.
func PruneCDI(dir string, keep []string, isHeld func(id string) bool) error {
	paths, err := filepath.Glob(filepath.Join(dir, cdiPrefix+"*"))
	errs := []error{err}
	for _, path := range paths {
		if slices.Contains(keep, path) {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !slices.ContainsFunc(deviceIDs.FindAllString(string(data), -1), isHeld) {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}

// deviceIDs finds device IDs in a specification of any version and format: PCI
// addresses and names on the auxiliary bus.
var deviceIDs = regexp.MustCompile(`[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]|[a-zA-Z0-9_-]+\.sf\.[0-9]+`)

// isDeviceID tells a device's file from that of a resource whose name begins
// with this one's name and a hyphen.
func isDeviceID(s string) bool { return deviceIDs.FindString(s) == s }
