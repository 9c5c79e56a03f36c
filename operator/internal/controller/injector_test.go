// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

func asking(namespace, key, networks string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "asking-"}}
	if networks != "" {
		p.Annotations = map[string]string{key: networks}
	}
	p.Spec.Containers = []corev1.Container{{Name: "app", Image: "busybox"}, {Name: "other", Image: "busybox"}}
	return p
}

func (c *cluster) account(t *testing.T, namespace string) {
	t.Helper()
	err := c.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"}})
	if !apierrors.IsAlreadyExists(err) {
		require.NoError(t, err)
	}
}

// injected enables the injector and waits until the API server asks it.
func (c *cluster) injected(t *testing.T, gates map[string]bool) *listener {
	t.Helper()
	c.configure(t, func(s *v1.SriovOperatorConfigSpec) { s.EnableInjector, s.FeatureGates = true, gates })
	l := c.listener(t)
	c.eventually(t, func(t *assert.CollectT) {
		_, err := l.try(asking("default", v1.AnnotationNetworks, "no-such-network"))
		require.ErrorContains(t, err, "annotation k8s.v1.cni.cncf.io/networks: no NetworkAttachmentDefinition default/no-such-network")
	})
	return l
}

func TestInjector(t *testing.T) {
	c := newCluster(t)
	for _, n := range []string{"inject-net", "kube-system"} {
		c.namespace(t, n)
	}
	for _, n := range []string{"kube-system", ns} {
		c.account(t, n)
	}
	network := func(namespace, name string, annotations map[string]string) {
		c.create(t, &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: annotations}})
	}
	network("default", "fast", map[string]string{v1.AnnotationResourceName: "x.io/fast"})
	network("inject-net", "shared", map[string]string{v1.AnnotationResourceName: "x.io/shared", v1.AnnotationNodeSelector: "zone=a"})
	network("default", "plain", nil)
	network("kube-system", "cluster", map[string]string{v1.AnnotationResourceName: "x.io/cluster"})

	t.Log("a network as the operator makes it")
	made := sriovNetwork(ns, "made", in("default"))
	c.create(t, made)
	c.ready(t, made, v1.ReasonNetworkReady)

	l := c.injected(t, nil)
	networks := v1.AnnotationNetworks
	for name, tc := range map[string]struct {
		pod    *corev1.Pod
		want   map[string]string // resources of the first container
		labels map[string]string
	}{
		"short":                 {asking("default", networks, "fast, inject-net/shared@net7,fast"), map[string]string{"x.io/fast": "2", "x.io/shared": "1"}, map[string]string{"zone": "a"}},
		"JSON":                  {asking("default", networks, `[{"name":"fast"},{"name":"made","ips":["10.0.0.1/24"]}]`), map[string]string{"x.io/fast": "1", "openshift.io/nics": "1"}, nil},
		"no resource":           {asking("default", networks, "plain"), nil, nil},
		"no annotation":         {asking("default", "", ""), nil, nil},
		"default network":       {asking("default", v1.AnnotationDefaultNetwork, "cluster"), map[string]string{"x.io/cluster": "1"}, nil},
		"default network, here": {asking("default", v1.AnnotationDefaultNetwork, "fast"), map[string]string{"x.io/fast": "1"}, nil},
		"of the system":         {asking("kube-system", networks, "default/fast"), nil, nil},
		"of the operator":       {asking(ns, networks, "default/fast"), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			heard, err := l.try(tc.pod)
			require.NoError(t, err)
			require.Empty(t, heard)
			got := map[string]string{}
			for r, q := range tc.pod.Spec.Containers[0].Resources.Limits {
				got[string(r)] = q.String()
				require.Equal(t, q, tc.pod.Spec.Containers[0].Resources.Requests[r])
			}
			require.Equal(t, len(tc.want), len(got), "%v", got)
			for r, n := range tc.want {
				require.Equal(t, n, got[r], r)
			}
			require.Empty(t, tc.pod.Spec.Containers[1].Resources)
			require.Equal(t, tc.labels, tc.pod.Spec.NodeSelector)
			require.Equal(t, len(tc.want) > 0, slices.ContainsFunc(tc.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == "podnetinfo" }))
		})
	}

	t.Log("what the pod asks for itself is kept, and counts")
	pod := asking("default", networks, "fast,fast,fast")
	one := corev1.ResourceList{"x.io/fast": resource.MustParse("1")}
	pod.Spec.Containers[1].Resources = corev1.ResourceRequirements{Requests: one, Limits: one}
	_, err := l.try(pod)
	require.NoError(t, err)
	require.Equal(t, int64(2), pod.Spec.Containers[0].Resources.Limits.Name("x.io/fast", resource.DecimalSI).Value())
	require.Equal(t, int64(1), pod.Spec.Containers[1].Resources.Limits.Name("x.io/fast", resource.DecimalSI).Value())

	t.Log("what cannot be read is left to the meta-plugin")
	heard, err := l.try(asking("default", networks, "a/b/c"))
	require.NoError(t, err)
	require.Len(t, heard, 1)
	require.Contains(t, heard[0], "no resources are added")
}

// With the gate, pods that ask for networks are not admitted unseen, and others still are.
func TestInjectorIsMandatoryIfAsked(t *testing.T) {
	c := newCluster(t)
	l := c.injected(t, map[string]bool{"resourceInjectorMatchCondition": true})
	broken := c.hook(t, podHook)
	broken.Webhooks[0].Name, broken.Name, broken.ResourceVersion, broken.UID = "broken.example.com", "broken", "", ""
	broken.Webhooks[0].ClientConfig.URL, broken.Labels = new("https://127.0.0.1:1/"), nil
	c.create(t, broken)
	c.eventually(t, func(t *assert.CollectT) {
		_, err := l.try(asking("default", v1.AnnotationNetworks, "x"))
		require.ErrorContains(t, err, "broken.example.com")
		_, err = l.try(asking("default", v1.AnnotationDefaultNetwork, "x"))
		require.ErrorContains(t, err, "broken.example.com")
	})
	_, err := l.try(asking("default", "", ""))
	require.NoError(t, err)
	_, err = l.try(asking("default", "another/annotation", "x"))
	require.NoError(t, err)
}
