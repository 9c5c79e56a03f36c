// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/dra/prepare"
	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/stretchr/testify/require"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// drivers of functions: a name, or why it is not known.
type drivers map[string]any

func (d drivers) Driver(a libsriov.Address) (string, error) {
	if err, ok := d[a.String()].(error); ok {
		return "", err
	}
	return d[a.String()].(string), nil
}
func (d drivers) BindDriver(context.Context, libsriov.Address, string) error { return nil }
func (d drivers) ResetDriver(context.Context, libsriov.Address) error        { return nil }

const (
	idle = "0000:01:00.0" // its interface is on the host
	busy = "0000:01:00.1" // or in a pod
)

// orphanNode is a driver with one record of a claim that has a device.
func orphanNode(t *testing.T, device string) (*Driver, record.Claim) {
	t.Helper()
	root, dir := t.TempDir(), t.TempDir()
	for _, below := range []string{"pci/devices/" + idle + "/net/eth0", "pci/devices/" + busy, "auxiliary/devices/mlx5_core.sf.1/net/eth1", "auxiliary/devices/mlx5_core.sf.2"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, "sys/bus", below), 0o755))
	}
	d := New(Options{
		Name: "d", Node: "n", PluginDir: dir, SysfsRoot: root, Client: fake.NewClientset(),
		Listed: func(context.Context) (Listed, error) {
			return Listed{Pods: map[string]bool{"kube-system/x": true}}, nil
		},
		Prepare: prepare.Preparer{
			Drivers: drivers{
				idle: "iavf", busy: "iavf", "0000:01:00.2": "vfio-pci", "0000:01:00.3": fmt.Errorf("x: %w", libsriov.ErrNoDevice),
				"0000:01:00.4": errors.New("input/output error"),
			},
			CDIDir: filepath.Join(dir, "cdi"), DeviceInfoDir: filepath.Join(dir, "devinfo"),
			Holders: func(context.Context) (map[string]config.Resource, error) { return nil, nil },
			Return:  func([]string) {},
		},
	}, slog.New(slog.DiscardHandler))
	c := record.Claim{
		UID: "1", Namespace: "team", Name: "c", Pod: record.Pod{UID: "p1", Name: "pod"}, Prepared: true,
		Requests: []record.Request{{Name: "nic", Devices: []record.Device{{ID: device}}}},
	}
	require.NoError(t, d.preparer.Store.Save(c))
	return d, c
}

// Only what is gone has no interface to come back; what cannot be read is not back.
func TestBack(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		idle: true, busy: false, "0000:01:00.2": true, "0000:01:00.3": true, "0000:01:00.4": false,
		"mlx5_core.sf.1": true, "mlx5_core.sf.2": false, "mlx5_core.sf.3": true,
	} {
		d, c := orphanNode(t, id)
		require.Equal(t, want, d.back(c), id)
		c.Requests[0].AdminAccess = true
		require.True(t, d.back(c), id)
	}
}

// A claim that another pod has come for is not over, whenever that pod came.
func TestOrphanHasANewUser(t *testing.T) {
	t.Parallel()
	d, c := orphanNode(t, idle)
	kept := func(why string) {
		t.Helper()
		d.endOrphan(t.Context(), c)
		r, err := d.preparer.Store.Load(c.UID)
		require.NoError(t, err)
		require.NotNil(t, r, why)
	}
	api := d.opts.Client.ResourceV1().ResourceClaims("team")
	claim := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "c", UID: "1"}}
	claim.Status.Allocation = &resourceapi.AllocationResult{}
	claim.Status.ReservedFor = []resourceapi.ResourceClaimConsumerReference{{Resource: "pods", Name: "next", UID: "p2"}}
	claim, err := api.Create(t.Context(), claim, metav1.CreateOptions{})
	require.NoError(t, err)
	require.Empty(t, d.orphans(t.Context()))
	kept("it is reserved for another pod")
	claim.Status.ReservedFor = nil
	_, err = api.Update(t.Context(), claim, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.Len(t, d.orphans(t.Context()), 1)

	next := c
	next.Pod = record.Pod{UID: "p2", Name: "next"}
	require.NoError(t, d.preparer.Store.Save(next))
	kept("it was prepared for another pod after the look")
	require.NoError(t, d.preparer.Store.Save(c))
	listed := d.opts.Listed
	d.opts.Listed = func(context.Context) (Listed, error) { return Listed{Pods: map[string]bool{"team/pod": true}}, nil }
	kept("kubelet lists the pod by now")
	d.opts.Listed = func(context.Context) (Listed, error) { return Listed{}, errors.New("silent") }
	kept("kubelet does not say")
	d.opts.Listed = listed
	d.endOrphan(t.Context(), c)
	r, err := d.preparer.Store.Load(c.UID)
	require.NoError(t, err)
	require.Nil(t, r)
}

// Of a record that cannot be read it is said once, and what belongs to another is reported as
// ever; only a file that belongs to no claim is kept for it.
func TestAttachmentsBesideAnUnreadableRecord(t *testing.T) {
	t.Parallel()
	d, _ := orphanNode(t, idle)
	var said bytes.Buffer
	d.log = slog.New(slog.NewTextHandler(&said, nil))
	dir := t.TempDir()
	bad := filepath.Join(d.preparer.Store.Dir, "2.json")
	require.NoError(t, os.WriteFile(bad, []byte("{"), 0o600))
	for _, pod := range []string{"p1", "p2"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, pod+".json"), []byte(`{"version": 1, "podUID": "`+pod+`"}`), 0o600))
	}
	for range 2 {
		require.True(t, d.attached(t.Context(), filepath.Join(dir, "p1.json")))
		require.False(t, d.attached(t.Context(), filepath.Join(dir, "p2.json")))
	}
	require.Equal(t, 1, bytes.Count(said.Bytes(), []byte("cannot be read")), said.String())
	require.NoError(t, os.Remove(bad))
	require.True(t, d.attached(t.Context(), filepath.Join(dir, "p2.json")))
}
