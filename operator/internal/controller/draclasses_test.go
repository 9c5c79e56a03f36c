// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controlplane"
)

// classes lists the DeviceClasses of the cluster.
func (c *cluster) classes(t require.TestingT) []string {
	var list resourcev1.DeviceClassList
	require.NoError(t, c.List(ctx, &list))
	var out []string
	for i := range list.Items {
		out = append(out, list.Items[i].Name)
	}
	slices.Sort(out)
	return out
}

// class is somebody else's.
func class(name, resource string) *resourcev1.DeviceClass {
	c := &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if resource != "" {
		c.Spec.ExtendedResourceName = &resource
	}
	return c
}

// What somebody else made is left as it is, and said; so is a name that is too long.
func TestDRASaysWhatItLacks(t *testing.T) {
	c := newCluster(t)
	c.draOff(t)
	named, holder := class("nics.openshift.io", ""), class("mine", "openshift.io/dpdk")
	c.create(t, named)
	c.create(t, holder)
	long := strings.Repeat("n", 52) // 65 bytes with the prefix
	for name, resource := range map[string]string{"dra-x": "nics", "dra-y": "dpdk", "dra-z": long, "dra-w": long[1:]} {
		p := policy(name, "no-such-node")
		p.Spec.ResourceName = resource
		c.create(t, p)
	}
	c.configure(t, draGate)
	c.eventually(t, func(t *assert.CollectT) {
		cond := c.dra(t)
		require.NotNil(t, cond)
		require.Equal(t, v1.ReasonDRAIncomplete, cond.Reason)
		require.Contains(t, cond.Message, "openshift.io/nics: DeviceClass nics.openshift.io is somebody else's")
		require.Contains(t, cond.Message, "openshift.io/dpdk: DeviceClass mine is somebody else's")
		require.Contains(t, cond.Message, `policy dra-z: resourceName "`+long+`"`)
		require.NotContains(t, cond.Message, "dra-w")
		require.Equal(t, []string{"mine", "nics.openshift.io", long[1:] + ".openshift.io"}, c.classes(t))
	})
	uid := named.UID
	require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(named), named))
	require.Equal(t, uid, named.UID)
	require.Empty(t, named.Spec.Selectors)
	t.Log("theirs go, ours come")
	c.drop(t, named)
	c.drop(t, holder)
	c.eventually(t, func(t *assert.CollectT) {
		require.Equal(t, []string{"dpdk.openshift.io", "nics.openshift.io", long[1:] + ".openshift.io"}, c.classes(t))
	})
	t.Log("theirs comes later: ours stays, for claims name it")
	ours := class("dpdk.openshift.io", "")
	require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(ours), ours))
	c.create(t, class("later", "openshift.io/dpdk"))
	c.eventually(t, func(t *assert.CollectT) {
		require.Contains(t, c.dra(t).Message, "DeviceClass later is somebody else's")
	})
	now := class("dpdk.openshift.io", "")
	require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(now), now))
	require.Equal(t, ours.UID, now.UID)
}

// A name that is too long is refused where the policy is written, while the gate is on.
func TestDRANamesAreJudged(t *testing.T) {
	c := newCluster(t)
	l := c.judged(t)
	p := policy("dra-long", "nowhere")
	p.Spec.ResourceName = strings.Repeat("n", 52)
	_, err := l.try(p.DeepCopy())
	require.NoError(t, err)
	c.configure(t, draGate)
	c.eventually(t, func(t *assert.CollectT) {
		_, err := l.try(p.DeepCopy())
		require.ErrorContains(t, err, "has 65 bytes; dynamic resource allocation allows 64")
	})
	p.Spec.ResourceName = p.Spec.ResourceName[1:]
	_, err = l.try(p.DeepCopy())
	require.NoError(t, err)
	said, err := l.try(modePool("dra-said", "nowhere", "yes"))
	require.NoError(t, err)
	require.Contains(t, strings.Join(said, "\n"), `annotation sriovkit.io/resource-mode "yes"`)
}

// API servers that cannot: nodes stay with the device plugin if there is no such API, and
// what an older one drops is said.
func TestDRAOfOlderAPIServers(t *testing.T) {
	controlplane.Need(t)
	t.Parallel() // a control plane of its own, and long waits for it
	program := buildOperator(t)
	for name, test := range map[string]struct {
		flags         []string
		mode          string
		reason, words string
	}{
		"not served":            {[]string{"--emulated-version=1.34", "--feature-gates=AllBeta=false,DynamicResourceAllocation=false", "--runtime-config=resource.k8s.io/v1=false"}, "", v1.ReasonDRANotServed, "does not serve resource.k8s.io/v1"},
		"no extended resources": {[]string{"--emulated-version=1.35"}, "dra", v1.ReasonDRAIncomplete, "drops extendedResourceName: on nodes in mode dra, pods get openshift.io/nics by claims only"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := startPlane(t.Context(), controlplane.Config{ServerFlags: test.flags})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, c.plane.Close()) })
			c.run(t, program, "CREATE_DEFAULT_CONFIG=true", "SRIOV_DEVICE_PLUGIN_IMAGE=sriovdp:test")
			c.node(t, "old", nil)
			c.create(t, policy("old", "old"))
			c.configure(t, draGate)
			c.eventually(t, func(t *assert.CollectT) {
				cond := c.dra(t)
				require.NotNil(t, cond)
				require.Equal(t, test.reason, cond.Reason, cond.Message)
				require.Contains(t, cond.Message, test.words)
				require.Equal(t, test.mode, c.mode(t, "old"))
				require.Equal(t, "ens1 0-3=nics", groups(c.state(t, "old")))
				require.Equal(t, test.mode != "", c.daemonSet(t, "sriov-dra-driver") != nil)
			})
		})
	}
}
