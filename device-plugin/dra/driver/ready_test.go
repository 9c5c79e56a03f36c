// SPDX-License-Identifier: Apache-2.0

package driver_test

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registered is kubelet's word on the registration.
func (n *node) registered(status *registerapi.RegistrationStatus) error {
	n.t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(n.dir, "registry", name+"-reg.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(n.t, err)
	defer conn.Close()
	_, err = registerapi.NewRegistrationClient(conn).NotifyRegistrationStatus(n.t.Context(), status)
	return err
}

// Ready is a driver that kubelet knows, with slices as they should be; else it says what is
// missing.
func TestReady(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.ready("not registered with kubelet yet")
	require.Error(t, n.registered(&registerapi.RegistrationStatus{Error: "no supported version"}))
	n.ready("kubelet does not take the driver: no supported version")
	require.NoError(t, n.registered(&registerapi.RegistrationStatus{PluginRegistered: true}))
	n.ready("")

	var away atomic.Bool
	away.Store(true)
	n.reactions.Add("update", "resourceslices", func(clienttesting.Action) (bool, runtime.Object, error) {
		return away.Load(), nil, errors.New("connection refused")
	})
	n.Update(t.Context(), n.noCarrier())
	n.ready("connection refused")
	away.Store(false)
	n.ready("")
	n.published(map[string]string{vf0: "", vf1: "sriovkit.io/no-carrier:NoSchedule", vf2: ""})
}

// A node that has no slices yet gets all of them at once, and the controller, which comes a
// second later, finds nothing to do.
func TestFirstSlicesAreKept(t *testing.T) {
	t.Parallel()
	n := start(t)
	list := func() map[string]string {
		l, err := n.api.ResourceV1().ResourceSlices().List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		out := map[string]string{}
		for _, s := range l.Items {
			out[s.Name] = s.ResourceVersion
			require.Equal(t, []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "node-1", UID: "n1", Controller: new(true)}}, s.OwnerReferences)
			require.Equal(t, resourceapi.ResourcePool{Name: "node-1", Generation: 1, ResourceSliceCount: 1}, s.Spec.Pool)
		}
		return out
	}
	first := list()
	require.Len(t, first, 1)
	require.NoError(t, n.registered(&registerapi.RegistrationStatus{PluginRegistered: true}))
	n.ready("") // the controller has compared
	require.Equal(t, first, list())
	for _, a := range n.api.Actions() {
		if a.GetResource().Resource == "resourceslices" {
			require.NotContains(t, []string{"update", "delete"}, a.GetVerb())
		}
	}
}
