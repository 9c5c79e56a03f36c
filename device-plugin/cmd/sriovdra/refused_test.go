// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/stretchr/testify/require"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	clienttesting "k8s.io/client-go/testing"
)

// create puts a claim into the API server.
func (w *world) create(c *resourceapi.ResourceClaim) *resourceapi.ResourceClaim {
	w.Helper()
	c, err := w.api.ResourceV1().ResourceClaims(c.Namespace).Create(w.Context(), c, metav1.CreateOptions{})
	require.NoError(w, err)
	return c
}

// ready is the condition Ready of a claim's first device; nil if there is none.
func (w *world) ready(c *resourceapi.ResourceClaim) *metav1.Condition {
	w.Helper()
	now, err := w.api.ResourceV1().ResourceClaims(c.Namespace).Get(w.Context(), c.Name, getNow)
	require.NoError(w, err)
	if len(now.Status.Devices) == 0 || len(now.Status.Devices[0].Conditions) == 0 {
		return nil
	}
	return &now.Status.Devices[0].Conditions[0]
}

// parameters of kind VfConfig for all requests, with these members.
func parameters(c *resourceapi.ResourceClaim, members string) {
	c.Status.Allocation.Devices.Config = []resourceapi.DeviceAllocationConfiguration{{
		Source: resourceapi.AllocationConfigSourceClaim,
		DeviceConfiguration: resourceapi.DeviceConfiguration{Opaque: &resourceapi.OpaqueDeviceConfiguration{
			Driver:     driverName,
			Parameters: runtime.RawExtension{Raw: []byte(`{"apiVersion": "sriovnetwork.k8snetworkplumbingwg.io/v1alpha1", "kind": "VfConfig", ` + members + `}`)},
		}},
	}}
}

// Claims that cannot be prepared: kubelet, which makes a pod's event of it, and the claim's
// status are told the same reason, nothing is half done, and the pod beside it is not touched.
func TestRefusedClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	w.serve()
	w.awaitOffered(vfs(2)...)
	beside, err := w.run("beside")
	require.NoError(t, err)
	free := vfs(2)[0]
	if beside.vf == free {
		free = vfs(2)[1]
	}
	before := w.leftovers()
	for name, tc := range map[string]struct {
		change func(c *resourceapi.ResourceClaim)
		want   string
		status bool // is told in the claim's status, too
	}{
		"of another driver": {func(c *resourceapi.ResourceClaim) { c.Status.Allocation.Devices.Results[0].Driver = "gpu.example.com" }, "none of its devices is of driver " + driverName, false},
		"of a deleted pod":  {func(c *resourceapi.ResourceClaim) { c.Status.ReservedFor = nil }, "is reserved for nobody: its pod is gone", true},
		"a device is gone": {func(c *resourceapi.ResourceClaim) {
			c.Status.Allocation.Devices.Results[0].Device = "0000-77-01-0"
		}, "request nic: 0000:77:01.0: the node does not offer this device", true},
		"of another node": {func(c *resourceapi.ResourceClaim) { c.Status.Allocation.Devices.Results[0].Pool = "other" }, `request nic: device`, false},
		"nested to 10 KiB": {func(c *resourceapi.ResourceClaim) {
			parameters(c, `"driver": `+strings.Repeat(`{"a":`, 1650)+"1"+strings.Repeat("}", 1650))
		}, "request nic, parameters of the claim: driver: want a string, not object", true},
		"unknown key of 10 KiB": {func(c *resourceapi.ResourceClaim) { parameters(c, `"`+strings.Repeat("x", 10000)+`": 1`) }, "request nic, parameters of the claim: unknown field", true},
		"another's device": {func(c *resourceapi.ResourceClaim) {
			c.Status.Allocation.Devices.Results[0].Device = pool.DRAName(beside.vf)
		}, "request nic: " + beside.vf + ": device is in use: claim team/beside has it for pod beside", true},
		"a driver it may not ask for": {func(c *resourceapi.ResourceClaim) { parameters(c, `"driver": "vfio-pci"`) }, `request nic: driver "vfio-pci" is asked for`, true},
	} {
		claim := newClaim("p", pool.DRAName(free))
		good := claim.DeepCopy()
		tc.change(claim)
		claim, err := w.store(claim)
		require.NoError(t, err, name)
		_, err = w.kube.Prepare(driverName, claim)
		require.ErrorContains(t, err, "claim team/p: "+tc.want, name)
		require.Less(t, len(err.Error()), 500, name)
		require.Equal(t, before, w.leftovers(), name)
		if told := w.ready(claim); tc.status {
			require.NotNil(t, told, name)
			require.Equal(t, metav1.ConditionFalse, told.Status)
			require.Equal(t, err.Error(), told.Message)
		} else {
			require.Nil(t, told, name)
		}
		require.NoError(t, w.kube.Unprepare(driverName, claim), name)

		now := w.mended(claim, good)
		_, err = w.kube.Prepare(driverName, now)
		require.NoError(t, err, name)
		require.Nil(t, w.ready(now), name)
		require.NoError(t, w.kube.Unprepare(driverName, now), name)
		require.NoError(t, w.api.ResourceV1().ResourceClaims("team").Delete(t.Context(), "p", deleteNow))
	}
	require.NoError(t, w.end(beside))
	require.Empty(t, w.leftovers())
}

// mended is a claim that can be prepared: the one that could not, of which the status has to
// take back why, or beside a real API server, where an allocation stays as it is, another.
func (w *world) mended(refused, good *resourceapi.ResourceClaim) *resourceapi.ResourceClaim {
	w.Helper()
	claims := w.api.ResourceV1().ResourceClaims("team")
	if w.fake == nil {
		require.NoError(w, claims.Delete(w.Context(), refused.Name, deleteNow))
		now, err := w.store(good)
		require.NoError(w, err)
		return now
	}
	now, err := claims.Get(w.Context(), refused.Name, getNow)
	require.NoError(w, err)
	now.Status.Allocation, now.Status.ReservedFor = good.Status.Allocation, good.Status.ReservedFor
	if now.Status.Allocation.Devices.Results[0].Device != refused.Status.Allocation.Devices.Results[0].Device {
		now.Status.Devices = nil // the API server drops what is not allocated any more
	}
	now, err = claims.Update(w.Context(), now, updateNow)
	require.NoError(w, err)
	return now
}

// serve has the node in mode dra, with a driver that is a process beside a real API server.
func (w *world) serve() {
	w.Helper()
	if w.fake != nil {
		w.mode("dra")
		return
	}
	w.label("dra")
	cmd, _ := w.command()
	require.NoError(w, cmd.Start())
	w.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		require.NoError(w, cmd.Wait())
	})
	w.kube.AwaitDriver(driverName, true)
}

// A claim that was made again under its name while the one before it still has a pod here:
// each has its own, and the end of the one takes nothing from the other.
func TestClaimMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	w.mode("dra")
	w.awaitOffered(vfs(2)...)
	w.kube.AwaitDriver(driverName, true)
	claims := w.api.ResourceV1().ResourceClaims("team")
	old := w.create(newClaim("p", pool.DRAName(vfs(2)[0])))
	_, err := w.kube.Prepare(driverName, old)
	require.NoError(t, err)
	require.NoError(t, claims.Delete(t.Context(), "p", deleteNow))
	fresh := newClaim("p", pool.DRAName(vfs(2)[1]))
	fresh.Status.ReservedFor[0].UID = "another"
	fresh = w.create(fresh)
	_, err = w.kube.Prepare(driverName, old)
	require.ErrorContains(t, err, "claim team/p got replaced")
	_, err = w.kube.Prepare(driverName, fresh)
	require.NoError(t, err)
	require.NoError(t, w.kube.Unprepare(driverName, old))
	text, err := os.ReadFile(filepath.Join(w.root, "plugins", driverName, "dra-device-metadata/team_p/nic/metadata.json"))
	require.NoError(t, err, "it is the other's")
	require.Contains(t, string(text), string(fresh.UID))
	_, err = w.kube.Prepare(driverName, old)
	require.Error(t, err)
	require.NoError(t, w.kube.Unprepare(driverName, fresh))
	require.Empty(t, w.leftovers())
	require.NoDirExists(t, filepath.Join(w.root, "plugins", driverName, "dra-device-metadata/team_p"))
	require.NoError(t, w.kube.Unprepare(driverName, &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "never", UID: uuid.NewUUID()}}))
}

// An API server that takes its time for everything: pods start and end, only later.
func TestAPIServerSlow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	var calls atomic.Int64
	w.reactions.Add("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if r := a.GetResource().Resource; r == "resourceclaims" && a.GetVerb() == "get" || r == "resourceslices" && a.GetVerb() == "create" {
			calls.Add(1)
			time.Sleep(200 * time.Millisecond)
		}
		return false, nil, nil
	})
	w.mode("dra")
	w.awaitOffered(vfs(2)...)
	for i := range 2 {
		p, err := w.run(fmt.Sprint("p", i))
		require.NoError(t, err)
		require.NoError(t, w.end(p))
	}
	require.GreaterOrEqual(t, calls.Load(), int64(3), "it was slow")
	require.Empty(t, w.hands.faults())
	require.Empty(t, w.leftovers())
}
