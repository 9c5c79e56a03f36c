// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/inventory"
)

const namespace = "sriov-network-operator"

// healthy is a cluster of one node, of which nothing is missing.
func healthy() *inventory.Inventory {
	meta := metav1.ObjectMeta{Namespace: namespace, Name: "w1"}
	inv := &inventory.Inventory{Namespace: namespace, Prefix: "openshift.io", Unread: map[string]string{}}
	inv.Configs = []v1.SriovOperatorConfig{{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1.DefaultConfigName}}}
	inv.Nodes = []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "w1"}}}
	inv.States = []v1.SriovNetworkNodeState{{ObjectMeta: meta, Status: v1.SriovNetworkNodeStateStatus{SyncStatus: v1.SyncSucceeded}}}
	inv.Pods = []corev1.Pod{daemon("sriov-network-config-daemon"), daemon("sriov-device-plugin")}
	return inv
}

func daemon(app string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: app + "-x", Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{NodeName: "w1"},
	}
}

func waiting(p *corev1.Pod, reason string, last *corev1.ContainerStateTerminated) {
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "c", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}, LastTerminationState: corev1.ContainerState{Terminated: last},
	}}
}

func TestWhatANodeLacks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*inventory.Inventory)
		state  string
		want   []Finding
	}{
		"healthy": {func(*inventory.Inventory) {}, "Succeeded", []Finding{}},
		"no daemon": {
			func(inv *inventory.Inventory) { inv.Pods = inv.Pods[1:] }, "Succeeded",
			[]Finding{{"daemonset/sriov-network-config-daemon", "it has no pod on this node, so what the node shows may be old", "kubectl -n sriov-network-operator describe daemonset sriov-network-config-daemon"}},
		},
		"pods unread": {
			func(inv *inventory.Inventory) { inv.Pods, inv.Unread["pods"] = nil, "no" }, "Succeeded", []Finding{},
		},
		"image away": {
			func(inv *inventory.Inventory) { waiting(&inv.Pods[1], "ImagePullBackOff", nil) }, "Succeeded",
			[]Finding{{"pod/sriov-network-operator/sriov-device-plugin-x", "sriov-device-plugin is not ready on this node: ImagePullBackOff", "kubectl -n sriov-network-operator describe pod sriov-device-plugin-x"}},
		},
		"crash loop": {
			func(inv *inventory.Inventory) {
				waiting(&inv.Pods[0], "CrashLoopBackOff", &corev1.ContainerStateTerminated{ExitCode: 1})
			}, "Succeeded",
			[]Finding{{
				"pod/sriov-network-operator/sriov-network-config-daemon-x", "sriov-network-config-daemon is not ready on this node: CrashLoopBackOff",
				"kubectl -n sriov-network-operator logs sriov-network-config-daemon-x -c c --previous",
			}},
		},
		"VFs that nobody offers": {
			func(inv *inventory.Inventory) {
				inv.States[0].Spec.Interfaces = []v1.Interface{{PciAddress: "0000:3b:00.0", VfGroups: []v1.VfGroup{{ResourceName: "nics", VfRange: "0-1"}}}}
			}, "Succeeded",
			[]Finding{{"node/w1", "has VFs 0-1 of 0000:3b:00.0 for openshift.io/nics, and kubelet offers none", "look at the device plugin: kubectl -n sriov-network-operator logs sriov-device-plugin-x"}},
		},
		"gone": {
			func(inv *inventory.Inventory) {
				inv.Nodes, inv.States[0].Annotations = nil, map[string]string{v1.AnnotationKeepUntil: "noon"}
			}, "not there",
			[]Finding{{"node/w1", "there is no such node", ""}, {"sriovnetworknodestate/w1", "the node is gone or no longer selected; its state is kept until noon", ""}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inv := healthy()
			tc.change(inv)
			r := Node(inv, "w1")
			require.Equal(t, tc.state, r.State)
			require.Equal(t, tc.want, r.Findings)
		})
	}
}

// A pod that runs without the networks that it asks for is not one of which nothing is missing.
func TestPodWithoutMetaPlugin(t *testing.T) {
	t.Parallel()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "app", Annotations: map[string]string{v1.AnnotationNetworks: "red"}},
		Spec:       corev1.PodSpec{NodeName: "w1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	inv := healthy()
	inv.Unread["network-attachment-definitions"] = "no"
	r := Pod(inv, p, nil)
	require.Len(t, r.Findings, 1)
	require.Contains(t, r.Findings[0].Problem, "no meta plugin attached")
	require.Contains(t, r.Findings[0].Remedy, "runs on node w1")

	p.Annotations[inventory.AnnotationNetworkStatus] = `[{"name": "bridge", "default": true}]`
	require.Empty(t, Pod(inv, p, nil).Findings)
}
