// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// inquire plays a daemon that asks about pods by UID, or no more.
func (c *cluster) inquire(t *testing.T, node string, uids ...string) {
	t.Helper()
	s := &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: node}}
	value := "null"
	if len(uids) > 0 {
		value = fmt.Sprintf("%q", strings.Join(uids, ","))
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}}}`, v1.AnnotationPodsAsked, value)
	require.NoError(t, c.Patch(t.Context(), s, client.RawPatch("application/merge-patch+json", []byte(patch))))
}

// A daemon is told which pods are on its node: neither those of other nodes, nor those that
// have ended, and static pods by the name that its kubelet has for them.
func TestDaemonIsToldWhichPodsAreHere(t *testing.T) {
	const none, static, hidden = "00000000-0000-4000-8000-000000000000", "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
	c := newCluster(t)
	c.node(t, "asks", nil)
	c.node(t, "beside", nil)
	here, ended, elsewhere := c.pod(t, "asks-here", "asks", true), c.pod(t, "asks-ended", "asks", true), c.pod(t, "asks-elsewhere", "beside", true)
	ended.Status.Phase = corev1.PodSucceeded
	require.NoError(t, c.Status().Update(ctx, ended))
	answer := func(want string) {
		t.Helper()
		c.eventually(t, func(t *assert.CollectT) {
			require.Equal(t, want, c.state(t, "asks").Annotations[v1.AnnotationPodsAnswer])
		})
	}
	c.inquire(t, "asks", none, string(here.UID), string(ended.UID), string(elsewhere.UID), static, hidden)
	answer(fmt.Sprintf("%s=gone,%s=here,%s=gone,%s=gone,%s=here,%s=here", none, here.UID, ended.UID, elsewhere.UID, static, hidden))
	require.Equal(t, v1.DrainIdle, c.current(t, "asks"))
	require.False(t, c.cordoned(t, "asks"))

	t.Log("the same again, by its mark")
	c.inquire(t, "asks", string(here.UID), string(ended.UID), "#1")
	answer(fmt.Sprintf("%s=here,%s=gone,#1=here", here.UID, ended.UID))
	here.Status.Phase = corev1.PodSucceeded
	require.NoError(t, c.Status().Update(ctx, here))
	c.inquire(t, "asks", string(here.UID), string(ended.UID), "#2")
	answer(fmt.Sprintf("%s=gone,%s=gone,#2=here", here.UID, ended.UID))

	c.inquire(t, "asks")
	answer("")
	c.drop(t, here)
	c.inquire(t, "asks", string(here.UID)) // anew
	answer(string(here.UID) + "=gone")
	c.inquire(t, "asks")
	answer("")
}
