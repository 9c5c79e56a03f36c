// SPDX-License-Identifier: Apache-2.0

// Package plan decides, from values alone, what an ADD will run: which
// interface each network gets, what its plugins read, and which requests
// cannot be honoured. Nothing is started before the whole plan stands.
package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/multus-shim/annotation"
	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/delegate"
	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
	"github.com/sriovkit/sriovkit/multus-shim/nad"
	"github.com/sriovkit/sriovkit/multus-shim/rawjson"
)

// Network is one attachment before it has an interface.
type Network struct {
	Config    nad.Config
	NAD       string               // "namespace/name"; "" when no NAD is behind it
	Resource  string               // that its NAD asks for, "" if none
	Device    string               // that a claim gives to this network, "" leaves it to Input.Devices
	Selection annotation.Selection // what the pod asked for; zero for the administrator's networks
}

// Label names the network for people and in network-status.
func (n Network) Label() string {
	if n.NAD != "" {
		return n.NAD
	}
	return n.Config.Name
}

// Input is everything the plan depends on.
type Input struct {
	ContainerID   string
	Ifname        string   // CNI_IFNAME, of the default network
	Existing      []string // interfaces that the pod has already
	Args          conf.Args
	RuntimeConfig map[string]json.RawMessage // from the runtime, for the default network
	Networks      []Network                  // in order, the default network first
	Devices       Devices                    // all that the pod was given, per resource
	DeviceInfoDir string
	Lenient       bool // a request without its capability is only a warning
	AnyDevice     bool // device IDs may be others than Devices
	AnyLength     bool // no file is named after the attachments, and their arguments are the runtime's
}

// Attachment is a delegate's attachment with what is done around it.
type Attachment struct {
	delegate.Attachment
	Default      bool
	DefaultRoute *annotation.DefaultRoute
	Resource     string // with DeviceID: the device-info file to copy
	DeviceID     string
}

// Make plans all attachments. Warnings are requests that had no effect.
func Make(in Input) (attachments []Attachment, warnings []string, err error) {
	names, err := interfaces(in.Ifname, in.Existing, in.Networks)
	if err != nil {
		return nil, nil, err
	}
	if err := oneDefaultRoute(in.Networks); err != nil {
		return nil, nil, err
	}
	devices, err := in.share()
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for i, n := range in.Networks {
		device := devices[i]
		if n.Resource != "" && device == "" {
			warnings = append(warnings, fmt.Sprintf("network %s: the pod was given no device of resource %q, its plugin gets none", n.Label(), n.Resource))
		}
		if err := in.ownDevices(n, device); err != nil {
			errs = append(errs, fmt.Errorf("network %s: %w", n.Label(), err))
			continue
		}
		if missing := missingCapabilities(n); len(missing) > 0 {
			text := fmt.Sprintf("network %s: %s asked for, but no plugin of it declares the capability",
				n.Label(), strings.Join(missing, ", "))
			if !in.Lenient {
				errs = append(errs, errors.New(text))
				continue
			}
			warnings = append(warnings, text)
		}
		for _, key := range n.Selection.Ignored {
			warnings = append(warnings, fmt.Sprintf("network %s: unknown key %q in its selection", n.Label(), key))
		}
		a, err := in.attachment(n, names[i], device, i == 0)
		if err == nil {
			err = errors.Join(in.fileNames(a), in.argsLength(a))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("network %s: %w", n.Label(), err))
			continue
		}
		attachments = append(attachments, a)
	}
	if err := brief.Join(errs...); err != nil {
		return nil, warnings, err
	}
	return attachments, warnings, nil
}

// interfaces names every network's interface: as requested, CNI_IFNAME for the
// default network, else net<index> or the next number that is free. An interface
// that the pod has already keeps its name; that of the default network is left to
// its plugin.
func interfaces(ifname string, existing []string, networks []Network) ([]string, error) {
	names := make([]string, len(networks))
	owner := map[string]string{}
	for i, n := range networks {
		name := n.Selection.Interface
		if i == 0 {
			name = ifname
		}
		if name == "" {
			continue
		}
		if other, taken := owner[name]; taken {
			return nil, fmt.Errorf("network %s: interface %q is already that of network %s", n.Label(), name, other)
		}
		if i > 0 && slices.Contains(existing, name) {
			return nil, fmt.Errorf("network %s: interface %s exists in the pod already", n.Label(), name)
		}
		names[i], owner[name] = name, n.Label()
	}
	for i, n := range networks {
		for number := i; names[i] == ""; number++ {
			if name := fmt.Sprintf("net%d", number); owner[name] == "" && !slices.Contains(existing, name) {
				names[i], owner[name] = name, n.Label()
			}
		}
	}
	return names, nil
}

// oneDefaultRoute: a pod has one place for its default routes. That one annotation asks once
// at most is known by now, but there are two.
func oneDefaultRoute(networks []Network) error {
	asks := func(n Network) bool { return n.Selection.DefaultRoute != nil }
	first := slices.IndexFunc(networks, asks)
	if second := slices.IndexFunc(networks[first+1:], asks); first >= 0 && second >= 0 {
		return fmt.Errorf("default-route: networks %s and %s ask for it, at most one may", networks[first].Label(), networks[first+1+second].Label())
	}
	return nil
}

func (in Input) attachment(n Network, ifname, device string, isDefault bool) (Attachment, error) {
	c := n.Config
	a := Attachment{
		Default: isDefault, DefaultRoute: n.Selection.DefaultRoute, Resource: n.Resource, DeviceID: device,
		Attachment: delegate.Attachment{
			Network: n.Label(), Ifname: ifname, Name: c.Name, CNIVersion: c.CNIVersion,
			DisableCheck: c.DisableCheck, DisableGC: c.DisableGC, SeedResult: c.SeedResult,
			Args: in.args(n.Selection, isDefault),
		},
	}
	if device == "" {
		a.DeviceID = n.Selection.DeviceID
	}
	for _, p := range c.Plugins {
		object, err := inject(p.JSON, device, n.Selection.CNIArgs)
		if err != nil {
			return Attachment{}, fmt.Errorf("plugin %s: %w", p.Type, err)
		}
		a.Plugins = append(a.Plugins, object.Bytes())
	}
	capabilities := in.capabilityArgs(n, a.DeviceID, isDefault)
	if c.Declares("CNIDeviceInfoFile") || a.DeviceID != "" {
		a.DeviceInfo = in.deviceInfo(n, ifname)
		capabilities["CNIDeviceInfoFile"] = rawjson.Marshal(a.DeviceInfo)
	}
	maps.DeleteFunc(capabilities, func(key string, _ json.RawMessage) bool { return !c.Declares(key) })
	if len(capabilities) > 0 {
		a.CapabilityArgs = capabilities
	}
	return a, nil
}

// inject adds the device, under both names that plugins read, and the pod's
// cni-args over those of the network.
func inject(object rawjson.Object, device string, cniArgs json.RawMessage) (rawjson.Object, error) {
	if device != "" {
		object = object.With("deviceID", rawjson.Marshal(device)).With("pciBusID", rawjson.Marshal(device))
	}
	if cniArgs == nil {
		return object, nil
	}
	args := rawjson.Object{}
	if have, ok := object.Get("args"); ok && string(have) != "null" {
		var err error
		if args, err = rawjson.Parse(have); err == nil {
			args, err = args.Canonical("cni")
		}
		if err != nil {
			return nil, fmt.Errorf("args: cannot merge cni-args: %w", err)
		}
	}
	cni := rawjson.Object{}
	if have, ok := args.Get("cni"); ok && string(have) != "null" {
		var err error
		if cni, err = rawjson.Parse(have); err != nil {
			return nil, fmt.Errorf("args.cni: cannot merge cni-args: %w", err)
		}
	}
	over, err := rawjson.Parse(cniArgs)
	if err != nil {
		return nil, fmt.Errorf("cni-args: %w", err)
	}
	return object.With("args", args.With("cni", cni.Merge(over).Bytes()).Bytes()), nil
}

// capabilityArgs is what goes to plugins that declare it: the runtime's values
// to the default network only, the selection's to its own network.
func (in Input) capabilityArgs(n Network, device string, isDefault bool) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	if isDefault {
		maps.Copy(out, in.RuntimeConfig)
	}
	for key, value := range requests(n.Selection) {
		out[key] = rawjson.Marshal(value)
	}
	if device != "" {
		out["deviceID"] = rawjson.Marshal(device)
	}
	return out
}

// requests are the values of a selection under the names of their capabilities.
func requests(s annotation.Selection) map[string]any {
	out := map[string]any{}
	if len(s.IPs) > 0 {
		out["ips"] = s.IPs
	}
	if s.MAC != "" {
		out["mac"] = s.MAC
	}
	if s.GUID != "" {
		out["infinibandGUID"] = s.GUID
	}
	if len(s.PortMappings) > 0 {
		out["portMappings"] = s.PortMappings
	}
	if s.Bandwidth != nil {
		out["bandwidth"] = s.Bandwidth
	}
	return out
}

func missingCapabilities(n Network) []string {
	var missing []string
	for _, key := range slices.Sorted(maps.Keys(requests(n.Selection))) {
		if !n.Config.Declares(key) {
			missing = append(missing, key)
		}
	}
	return missing
}

// args are CNI_ARGS: the runtime's, each key once. Plugins that predate
// capabilities read addresses from IP and MAC; the runtime's own are meant for
// the default network.
func (in Input) args(s annotation.Selection, isDefault bool) conf.Args {
	args := in.Args
	if args.Get("IgnoreUnknown") == "" {
		args = args.With("IgnoreUnknown", "1")
	}
	if !isDefault {
		args = args.Without("IP", "MAC")
	}
	if len(s.IPs) > 0 {
		args = args.With("IP", strings.Join(s.IPs, ","))
	}
	if s.MAC != "" {
		args = args.With("MAC", s.MAC)
	}
	return args
}

// deviceInfo is the attachment's file of the Device Information specification,
// section 4.2.1.
func (in Input) deviceInfo(n Network, ifname string) string {
	label := strings.ReplaceAll(n.Label(), "/", "-")
	return filepath.Join(in.DeviceInfoDir, "cni", label+"-"+in.ContainerID+"_"+ifname)
}

// maxFileName is what Linux file systems take for a file's name, bytes. A file that is
// written beside its place has tmpRoom bytes more for the time.
const (
	maxFileName = 255
	tmpRoom     = len(".tmp-") + len("4294967295")
)

// fileNames refuses an attachment after which no file can be named: what it started could
// not be recorded.
func (in Input) fileNames(a Attachment) error {
	if in.AnyLength {
		return nil
	}
	if name := delegate.FileName(in.ContainerID, a.Attachment); len(name) > maxFileName {
		return fmt.Errorf("the configuration's name has %d bytes, at most %d leave room for container and interface in the %d of a file's name: give it a shorter one",
			len(a.Name), maxFileName-(len(name)-len(a.Name)), maxFileName)
	}
	if name := filepath.Base(a.DeviceInfo); len(name)+tmpRoom > maxFileName {
		return fmt.Errorf("namespace and name have %d bytes, at most %d leave room for container and interface in the %d of a device-info file's name: give it a shorter one",
			len(a.Network), maxFileName-tmpRoom-(len(name)-len(a.Network)), maxFileName)
	}
	return nil
}

// maxVariable is what Linux takes for a variable of the environment, bytes
// (MAX_ARG_STRLEN of execve(2), with the NUL).
const maxVariable = 128 << 10

// argsLength refuses an attachment whose plugins could not be started, for ADD or for DEL.
func (in Input) argsLength(a Attachment) error {
	if n := len("CNI_ARGS=") + len(a.Args.String()) + 1; n > maxVariable && !in.AnyLength {
		return fmt.Errorf("ips: CNI_ARGS has %d bytes with them, a plugin can be given at most %d: ask for fewer addresses", n, maxVariable)
	}
	return nil
}

// Allowed reports whether a pod may select a NAD: with isolation one of its own namespace or
// of the global ones.
func Allowed(isolation bool, podNamespace string, global []string, s annotation.Selection) error {
	if !isolation || s.Namespace == podNamespace || slices.Contains(global, s.Namespace) {
		return nil
	}
	return fmt.Errorf("network %s: namespaceIsolation keeps pods of namespace %q to networks of their own and of: %s",
		s.Ref(), podNamespace, strings.Join(global, ", "))
}
