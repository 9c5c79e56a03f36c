// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
)

// Devices are device IDs by resource name, in the order they are handed out.
type Devices map[string][]string

// Holds reports whether the pod was given the device, of whatever resource.
func (d Devices) Holds(id string) bool {
	for _, ids := range d {
		if slices.Contains(ids, id) {
			return true
		}
	}
	return false
}

// share hands out the devices of each resource in the order of the networks; "" is
// no device. A network keeps the device that a claim gives to it. A pod without any
// device of a resource is one whose resource nobody plugs devices for: KubeVirt's bridge
// marker and ovs-cni publish names that schedule pods to nodes. A pod with fewer devices
// than networks is a mistake.
func (in Input) share() ([]string, error) {
	users, given := map[string]int{}, map[string][]string{}
	for _, n := range in.Networks {
		switch {
		case n.Device != "":
			given[n.Resource] = append(given[n.Resource], n.Device)
		case n.Resource != "":
			users[n.Resource]++
		}
	}
	left := Devices{}
	for resource, ids := range in.Devices {
		left[resource] = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(given[resource], id) })
	}
	out := make([]string, len(in.Networks))
	next := map[string]int{}
	for i, n := range in.Networks {
		ids, others := left[n.Resource], len(given[n.Resource])
		switch {
		case n.Device != "":
			out[i] = n.Device
		case n.Resource == "" || len(ids)+others == 0:
		case len(ids) < users[n.Resource]:
			return nil, fmt.Errorf("network %s: no device of resource %q is left for it: the pod has %d and must request one for each of the %d networks that use the resource",
				in.without(n.Resource, len(ids)), n.Resource, len(ids)+others, users[n.Resource]+others)
		default:
			out[i] = ids[next[n.Resource]]
			next[n.Resource]++
		}
	}
	return out, nil
}

// without names the network for which no device of a resource is left.
func (in Input) without(resource string, devices int) string {
	for _, n := range in.Networks {
		if n.Resource != resource || n.Device != "" {
			continue
		}
		if devices == 0 {
			return n.Label()
		}
		devices--
	}
	return ""
}

// ownDevices refuses devices of the node that the pod was not given: in the pod's
// selection, and in a network whose resource says that kubelet hands them out.
// Networks without a resource name devices as their author chose.
func (in Input) ownDevices(n Network, given string) error {
	if given != "" || in.AnyDevice {
		return nil // what else is named is replaced, or allowed
	}
	if id := n.Selection.DeviceID; id != "" && !in.Devices.Holds(id) {
		return fmt.Errorf(`deviceID %q: this device was not given to the pod; request it as a resource, or set "deviceIDs":"any" in the configuration of multus-shim`,
			brief.Text(id))
	}
	if n.Resource == "" {
		return nil
	}
	for _, p := range n.Config.Plugins {
		for _, key := range []string{"deviceID", "pciBusID"} {
			value, ok := p.JSON.Get(key)
			if !ok || string(value) == "null" {
				continue
			}
			var id string
			if json.Unmarshal(value, &id) != nil || id != "" && !in.Devices.Holds(id) {
				return fmt.Errorf("plugin %s: %s %s: this device of resource %q was not given to the pod; request the resource",
					p.Type, key, brief.Text(string(value)), n.Resource)
			}
		}
	}
	return nil
}
