// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/stretchr/testify/require"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
)

// refusal is a change to a claim, or to a node, and why it is then refused.
type refusal struct {
	change func(n *node, c *resourceapi.ResourceClaim)
	want   string
	is     error
}

// device names a device that the node does not offer.
func device(name string) refusal {
	return refusal{func(_ *node, c *resourceapi.ResourceClaim) { c.Status.Allocation.Devices.Results[0].Device = name }, "request vf: ", ErrNoDevice}
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]refusal{
		"not allocated": {func(_ *node, c *resourceapi.ResourceClaim) { c.Status.Allocation = nil }, "is not allocated", nil},
		"no consumer":   {func(_ *node, c *resourceapi.ResourceClaim) { c.Status.ReservedFor = nil }, "is reserved for nobody: its pod is gone", nil},
		"two pods": {func(_ *node, c *resourceapi.ResourceClaim) {
			c.Status.ReservedFor = append(c.Status.ReservedFor, c.Status.ReservedFor[0])
		}, "a VF belongs to one pod", nil},
		"not a pod":    {func(_ *node, c *resourceapi.ResourceClaim) { c.Status.ReservedFor[0].Resource = "jobs" }, "want a pod", nil},
		"another node": {func(_ *node, c *resourceapi.ResourceClaim) { c.Status.Allocation.Devices.Results[0].Pool = "node-2" }, `this node's pool is "node-1"`, nil},
		"gone": {func(_ *node, c *resourceapi.ResourceClaim) {
			c.Status.Allocation.Devices.Results[0].Device = "0000-09-02-1"
		}, "0000:09:02.1", ErrNoDevice},
		"a pod has it": {func(n *node, _ *resourceapi.ResourceClaim) {
			n.held[testhost.VF1] = config.Resource{Prefix: "example.com", Name: "dpdk"}
		}, "example.com/dpdk", ErrInUse},
		"kubelet is silent": {func(n *node, _ *resourceapi.ResourceClaim) {
			n.Holders = func(context.Context) (map[string]config.Resource, error) { return nil, errors.New("no answer") }
		}, "it is not known which devices pods hold: no answer", nil},
		"another claim has it": {func(n *node, _ *resourceapi.ResourceClaim) {
			other := claim("vf: " + testhost.VF1)
			other.UID, other.Name = "11111111-0000-0000-0000-000000000000", "other"
			require.NoError(n.kernel.t, n.Prepare(context.Background(), other).Err)
		}, "claim team/other has it for pod pod", ErrInUse},
		"a record is unreadable": {func(n *node, _ *resourceapi.ResourceClaim) {
			testhost.Write(n.kernel.t, n.root, "state/claims/22222222-0000-0000-0000-000000000000.json", "{")
		}, "remove ", record.ErrUnreadable},
		"unknown key":                      {func(_ *node, c *resourceapi.ResourceClaim) { with(c, `"drivr": "x"`) }, `request vf, parameters of the claim: unknown field "drivr"`, nil},
		"driver that is none":              {func(_ *node, c *resourceapi.ResourceClaim) { with(c, `"driver": "vfoi"`) }, `request vf: driver "vfoi" is asked for 0000:01:02.1: want "default" for`, nil},
		"driver of vfio that is not there": {func(_ *node, c *resourceapi.ResourceClaim) { with(c, `"driver": "mlx5-vfio-pci"`) }, `driver "mlx5-vfio-pci"`, libsriov.ErrNoDriver},
		"driver for another function":      {func(_ *node, c *resourceapi.ResourceClaim) { with(c, `"driver": "ahci"`) }, `driver "ahci" is asked for`, nil},
		"driver that reaches all memory":   {func(_ *node, c *resourceapi.ResourceClaim) { with(c, `"driver": "uio_pci_generic"`) }, `driver "uio_pci_generic" is asked for`, nil},
		"of another driver": {func(_ *node, c *resourceapi.ResourceClaim) {
			c.Status.Allocation.Devices.Results[0].Driver = "gpu.example.com"
		}, "none of its devices is of driver " + driver, nil},
		"no results": {func(_ *node, c *resourceapi.ResourceClaim) { c.Status.Allocation.Devices.Results = nil }, "none of its devices", nil},
		"twice in the claim": {func(_ *node, c *resourceapi.ResourceClaim) {
			again := c.Status.Allocation.Devices.Results[0]
			again.Request = "other"
			c.Status.Allocation.Devices.Results = append(c.Status.Allocation.Devices.Results, again)
		}, "request other: 0000:01:02.1 is in the claim twice", nil},
		"twice in a request": {func(_ *node, c *resourceapi.ResourceClaim) {
			c.Status.Allocation.Devices.Results = append(c.Status.Allocation.Devices.Results, c.Status.Allocation.Devices.Results[0])
		}, "is in the claim twice", nil},
		"a share of a device": {func(n *node, c *resourceapi.ResourceClaim) {
			share := func(id string) *types.UID { u := types.UID(id); return &u }
			other := claim("vf: " + testhost.VF1)
			other.UID, other.Name = "11111111-0000-0000-0000-000000000000", "other"
			other.Status.Allocation.Devices.Results[0].ShareID = share("1")
			require.NoError(n.kernel.t, n.Prepare(context.Background(), other).Err)
			c.Status.Allocation.Devices.Results[0].ShareID = share("2")
		}, "claim team/other has it", ErrInUse},
		"a path for a name":    device("../../../dev/sda"),
		"another name for it":  device("00000000-01-02-1"),
		"capitals":             device("0000-01-02-1A"),
		"a number":             device("7"),
		"no name":              device(""),
		"the PF":               device("0000-01-00-0"),
		"a sub-function":       device("mlx5-core-sf-1"),
		"a name of 4 KiB":      device(strings.Repeat("0", 4<<10)),
		"a name with a line":   device("0000-01-02-1\n"),
		"UID that is a path":   {func(_ *node, c *resourceapi.ResourceClaim) { c.UID = "../../x" }, `"../../x" is not a UID`, nil},
		"no UID":               {func(_ *node, c *resourceapi.ResourceClaim) { c.UID = "" }, `"" is not a UID`, nil},
		"another group's pods": {func(_ *node, c *resourceapi.ResourceClaim) { c.Status.ReservedFor[0].APIGroup = "x.example.com" }, "want a pod", nil},
		"shared, one looks": {func(_ *node, c *resourceapi.ResourceClaim) {
			look := c.Status.Allocation.Devices.Results[0]
			look.Request, look.AdminAccess = "look", new(true)
			c.Status.Allocation.Devices.Results = append(c.Status.Allocation.Devices.Results, look)
			c.Status.ReservedFor = append(c.Status.ReservedFor, c.Status.ReservedFor[0])
		}, "a VF belongs to one pod", nil},
		"parameters nested to 10 KiB": {func(_ *node, c *resourceapi.ResourceClaim) {
			with(c, `"driver": `+strings.Repeat("[", 5000)+strings.Repeat("]", 5000))
		}, "request vf, parameters of the claim: driver: want a string, not array", nil},
		"unknown parameters nested to 10 KiB": {func(_ *node, c *resourceapi.ResourceClaim) {
			with(c, `"x": `+strings.Repeat(`{"x":`, 1600)+"1"+strings.Repeat("}", 1600))
		}, `request vf, parameters of the claim: unknown field "x"`, nil},
		"parameters of the class": {func(_ *node, c *resourceapi.ResourceClaim) {
			with(c, `"vlan": 5`)
			c.Status.Allocation.Devices.Config[0].Source = resourceapi.AllocationConfigSourceClass
		}, `parameters of the DeviceClass: unknown field "vlan"`, nil},
		"binding is off": {func(n *node, c *resourceapi.ResourceClaim) {
			with(c, `"driver": "default"`)
			n.BindDrivers = false
		}, "-bind-drivers", nil},
		"the kernel refuses": {func(n *node, c *resourceapi.ResourceClaim) {
			with(c, `"driver": "default"`)
			n.kernel.refuse = errors.New("device or resource busy")
		}, "device or resource busy", nil},
		"the inventory has moved on": {func(n *node, _ *resourceapi.ResourceClaim) {
			n.Give = func(config.Resource, []string) (func(), error) { return nil, errors.New("not offered") }
		}, "request vf: not offered", nil},
		"no IOMMU group": {func(n *node, _ *resourceapi.ResourceClaim) {
			require.NoError(n.kernel.t, os.Remove(filepath.Join(n.root, "sys/bus/pci/devices", testhost.VF1, "iommu_group")))
		}, testhost.VF1, allocation.ErrNoNode},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			c := claim("vf: " + testhost.VF1)
			tc.change(n, c)
			before := n.state(t)
			got := n.Prepare(t.Context(), c)
			require.ErrorContains(t, got.Err, tc.want)
			require.ErrorContains(t, got.Err, "claim team/vf")
			if tc.is != nil {
				require.ErrorIs(t, got.Err, tc.is)
			}
			require.Empty(t, got.Devices)
			n.kernel.refuse = nil
			require.Equal(t, before, n.state(t), "nothing is half done")
		})
	}
}
