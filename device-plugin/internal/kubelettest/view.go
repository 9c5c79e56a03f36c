// SPDX-License-Identifier: Apache-2.0

package kubelettest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// patience is how long a test waits for something that should take
// milliseconds, on a machine that does other things as well.
const patience = time.Minute

// AwaitDevices waits until the devices of a resource are these: "ID" for a
// healthy one, "ID!" for an unhealthy one, in the order of the plugin's list.
func (k *Kubelet) AwaitDevices(resource string, want ...string) {
	k.t.Helper()
	k.Await(func() error {
		if got := k.devices(resource); !slices.Equal(got, want) {
			return fmt.Errorf("%s has %v, want %v", resource, got, want)
		}
		return nil
	})
}

// AwaitCount waits until a resource has n healthy devices.
func (k *Kubelet) AwaitCount(resource string, n int) {
	k.t.Helper()
	k.Await(func() error {
		healthy := slices.DeleteFunc(k.devices(resource), func(s string) bool { return strings.HasSuffix(s, "!") })
		if e := k.endpoints[resource]; len(healthy) != n || e == nil || !e.live {
			return fmt.Errorf("%s has %d healthy devices, want %d on a live stream", resource, len(healthy), n)
		}
		return nil
	})
}

// AwaitGone waits until the stream of a resource has ended.
func (k *Kubelet) AwaitGone(resource string) {
	k.t.Helper()
	k.Await(func() error {
		if e := k.endpoints[resource]; e != nil && e.live {
			return fmt.Errorf("%s is still there", resource)
		}
		return nil
	})
}

// Await waits until a condition on the kubelet's state holds. It is called with
// the state locked, after every change.
func (k *Kubelet) Await(condition func() error) {
	k.t.Helper()
	deadline := time.After(patience)
	for {
		k.mu.Lock()
		err, changed := condition(), k.changed
		k.mu.Unlock()
		if err == nil {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			require.NoError(k.t, err)
		}
	}
}

func (k *Kubelet) devices(resource string) []string {
	e := k.endpoints[resource]
	if e == nil {
		return nil
	}
	var out []string
	for _, d := range e.devices {
		id := d.ID
		if d.Health != pluginapi.Healthy {
			id += "!"
		}
		out = append(out, id)
	}
	return out
}

// NUMA is the node of a device as kubelet was told; -1 if none.
func (k *Kubelet) NUMA(resource, id string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range k.endpoints[resource].devices {
		if d.ID == id && d.Topology != nil {
			return int(d.Topology.Nodes[0].ID)
		}
	}
	return -1
}

// Lists is how many device lists a resource has sent.
func (k *Kubelet) Lists(resource string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.endpoints[resource]; e != nil {
		return e.lists
	}
	return 0
}

// Allocate asks for devices for one container.
func (k *Kubelet) Allocate(resource string, ids ...string) (*pluginapi.ContainerAllocateResponse, error) {
	r, err := k.client(resource).Allocate(context.Background(), &pluginapi.AllocateRequest{
		ContainerRequests: []*pluginapi.ContainerAllocateRequest{{DevicesIds: ids}},
	})
	if err != nil {
		return nil, err
	}
	require.Len(k.t, r.ContainerResponses, 1)
	return r.ContainerResponses[0], nil
}

// Preferred asks which devices to take.
func (k *Kubelet) Preferred(resource string, available, must []string, size int) []string {
	k.t.Helper()
	options, err := k.client(resource).GetDevicePluginOptions(context.Background(), &pluginapi.Empty{})
	require.NoError(k.t, err)
	require.True(k.t, options.GetPreferredAllocationAvailable)
	r, err := k.client(resource).GetPreferredAllocation(context.Background(), &pluginapi.PreferredAllocationRequest{
		ContainerRequests: []*pluginapi.ContainerPreferredAllocationRequest{{
			AvailableDeviceIDs: available, MustIncludeDeviceIDs: must, AllocationSize: int32(size),
		}},
	})
	require.NoError(k.t, err)
	return r.ContainerResponses[0].DeviceIDs
}

// Hold lets pods hold these devices of a resource from now on, and no others.
func (k *Kubelet) Hold(resource string, ids ...string) {
	ids = slices.Clone(ids)
	k.update(func() { k.held[resource] = ids })
}

// Checkpoint writes the device manager's checkpoint: by resource the devices that pods have.
func Checkpoint(t testing.TB, root string, held map[string][]string) {
	t.Helper()
	type entry struct {
		PodUID, ContainerName, ResourceName string
		DeviceIDs                           map[string][]string
	}
	entries := []entry{}
	for resource, ids := range held {
		entries = append(entries, entry{"uid", "c", resource, map[string][]string{"-1": {}, "0": ids}})
	}
	data, err := json.Marshal(map[string]any{"Data": map[string]any{"PodDeviceEntries": entries}, "Checksum": 1})
	require.NoError(t, err)
	path := filepath.Join(root, "device-plugins", checkpoint)
	require.NoError(t, os.WriteFile(path+".new", data, 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// HoldUnlisted lets init containers hold these devices of a resource, and no others. As of
// the real one, the pod-resources API does not tell. The checkpoint is written when they get
// devices, and from then on with every list of devices that arrives, but not when they end.
func (k *Kubelet) HoldUnlisted(resource string, ids ...string) {
	k.update(func() {
		if k.unlisted == nil {
			k.unlisted = map[string][]string{}
		}
		k.unlisted[resource] = ids
		if len(ids) > 0 {
			Checkpoint(k.t, k.root, k.unlisted)
		}
	})
}

// Claim lets a pod hold a device, by the name that DRA drivers give it, through a claim; ""
// releases it.
func (k *Kubelet) Claim(claim, device string) {
	k.update(func() {
		if k.claimed == nil {
			k.claimed = map[string]string{}
		}
		k.claimed[claim] = device
		if device == "" {
			delete(k.claimed, claim)
		}
	})
}

// Silence makes the pod-resources API fail, or answer again.
func (k *Kubelet) Silence(silent bool) { k.update(func() { k.silent = silent }) }

// Healthy lists the healthy devices of a resource as kubelet was last told.
func (k *Kubelet) Healthy(resource string) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.DeleteFunc(k.devices(resource), func(s string) bool { return strings.HasSuffix(s, "!") })
}

// Cut breaks the stream of a resource, and the connection with it.
func (k *Kubelet) Cut(resource string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = k.endpoints[resource].conn.Close()
}

func (k *Kubelet) client(resource string) pluginapi.DevicePluginClient {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	require.NotNil(k.t, k.endpoints[resource], "%s is not registered", resource)
	return pluginapi.NewDevicePluginClient(k.endpoints[resource].conn)
}
