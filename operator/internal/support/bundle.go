// SPDX-License-Identifier: Apache-2.0

package support

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/inventory"
)

// Logs reads the last lines of a container's log.
type Logs func(ctx context.Context, namespace, pod, container string) ([]byte, error)

// Bundle is what goes into the archive, by path.
type Bundle map[string][]byte

// Collect gathers what an inventory holds, and events and logs of the operator's namespace.
// What could not be read is listed in the file unread.txt.
func Collect(ctx context.Context, c client.Reader, inv *inventory.Inventory, logs Logs) (Bundle, error) {
	b := Bundle{}
	missed := inv.Missed()
	for name, objects := range map[string]any{
		"sriovnetworknodestates": inv.States, "sriovnetworknodepolicies": inv.Policies, "sriovnetworks": inv.Networks,
		"sriovibnetworks": inv.IBNetworks, "ovsnetworks": inv.OVSNetworks, "sriovnetworkpoolconfigs": inv.Pools,
		"sriovoperatorconfigs": inv.Configs, "network-attachment-definitions": inv.Attachments, "resourceclaims": inv.Claims,
		"daemonsets": inv.DaemonSets, "deployments": inv.Deployments, "nodes": nodes(inv.Nodes), "pods": pods(inv),
	} {
		if err := b.add("objects/"+name+".yaml", objects); err != nil {
			return nil, err
		}
	}
	var events corev1.EventList
	if err := c.List(ctx, &events, client.InNamespace(inv.Namespace)); err != nil {
		missed = append(missed, "events: "+err.Error())
	} else if err := b.add("objects/events.yaml", events.Items); err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, logsTime)
	defer cancel()
	missed = append(missed, b.addLogs(within, inv, logs, logsLimit)...)
	if len(missed) > 0 {
		b["unread.txt"] = []byte(scrubText(strings.Join(missed, "\n") + "\n"))
	}
	return b, ctx.Err()
}

// logsLimit bounds all logs of a bundle, which is made in memory and sent around. Of a large
// cluster it has those of some nodes, first of those that do not do well.
const logsLimit = 64 << 20

// logsTime bounds how long they are read: nodes that are gone are asked first, and answer last.
const logsTime = 5 * time.Minute

// addLogs adds the logs of the operator's pods until they have limit bytes, and returns what
// could not be read.
func (b Bundle) addLogs(ctx context.Context, inv *inventory.Inventory, logs Logs, limit int) (missed []string) {
	var pods []*corev1.Pod
	for i := range inv.Pods {
		if p := &inv.Pods[i]; p.Namespace == inv.Namespace {
			pods = append(pods, p)
		}
	}
	well := func(p *corev1.Pod) int {
		s := inv.State(p.Spec.NodeName)
		if !ready(p) || s != nil && s.Status.SyncStatus != v1.SyncSucceeded || p.Labels["app"] == operatorName {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(well(a), well(b)) })
	size, leftOut := 0, 0
	for _, p := range pods {
		for _, container := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			if size >= limit || ctx.Err() != nil {
				leftOut++
				continue
			}
			text, err := logs(ctx, p.Namespace, p.Name, container.Name)
			if err != nil {
				missed = append(missed, fmt.Sprintf("log of %s/%s: %v", p.Name, container.Name, err))
				continue
			}
			scrubbed := []byte(scrubLog(string(text)))
			b["logs/"+p.Name+"-"+container.Name+".log"] = scrubbed
			size += len(scrubbed)
		}
	}
	if leftOut > 0 {
		missed = append(missed, fmt.Sprintf("logs of %d containers: those before them are %d bytes already, or took all of %s", leftOut, size, logsTime))
	}
	return missed
}

// operatorName is the label app of the operator's own pods.
const operatorName = "sriov-network-operator"

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// add writes objects as YAML, without secrets and what nobody reads.
func (b Bundle) add(name string, objects any) error {
	text, err := json.Marshal(objects)
	if err != nil {
		return err
	}
	var list []any
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	for i := range list {
		if m, ok := list[i].(map[string]any)["metadata"].(map[string]any); ok {
			delete(m, "managedFields")
		}
		list[i] = scrub(list[i])
	}
	if b[name], err = yaml.Marshal(list); err != nil {
		return err
	}
	return nil
}

// nodes keeps what SR-IOV is about.
func nodes(all []corev1.Node) []corev1.Node {
	out := make([]corev1.Node, 0, len(all))
	for _, n := range all {
		out = append(out, corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels, Annotations: ours(n.Annotations)},
			Spec:       corev1.NodeSpec{Unschedulable: n.Spec.Unschedulable, Taints: n.Spec.Taints},
			Status: corev1.NodeStatus{
				Allocatable: n.Status.Allocatable, Capacity: n.Status.Capacity, NodeInfo: n.Status.NodeInfo, Conditions: n.Status.Conditions,
			},
		})
	}
	return out
}

// ours are the annotations that SR-IOV networking, and those who install it, read or write.
func ours(annotations map[string]string) map[string]string {
	out := maps.Clone(annotations)
	maps.DeleteFunc(out, func(key, _ string) bool { return !ourAnnotation(key) })
	return out
}

func ourAnnotation(key string) bool {
	for _, domain := range []string{
		"sriovnetwork.openshift.io/", "k8s.v1.cni.cncf.io/", "v1.multus-cni.io/", "sriovkit.io/",
		"deployment.kubernetes.io/", "resource.kubernetes.io/", "meta.helm.sh/", "helm.sh/",
	} {
		if strings.HasPrefix(key, domain) {
			return true
		}
	}
	return false
}

// pods are those of the operator, whole, and of everybody who asks for networks or VFs, as
// far as that: what other people run there is theirs.
func pods(inv *inventory.Inventory) []corev1.Pod {
	out := []corev1.Pod{}
	for i := range inv.Pods {
		p := &inv.Pods[i]
		annotations := ours(p.Annotations)
		switch {
		case p.Namespace == inv.Namespace:
			out = append(out, *p)
		case len(annotations) > 0 || len(inv.Requests(p)) > 0 || len(p.Spec.ResourceClaims) > 0:
			small := corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID, CreationTimestamp: p.CreationTimestamp, Annotations: annotations},
				Spec:       corev1.PodSpec{NodeName: p.Spec.NodeName, ResourceClaims: p.Spec.ResourceClaims},
				Status:     corev1.PodStatus{Phase: p.Status.Phase, Conditions: p.Status.Conditions, Reason: p.Status.Reason, Message: p.Status.Message},
			}
			for _, c := range p.Spec.Containers {
				small.Spec.Containers = append(small.Spec.Containers, corev1.Container{Name: c.Name, Resources: c.Resources})
			}
			out = append(out, small)
		}
	}
	return out
}

// Write writes the bundle as a compressed tar archive.
func (b Bundle) Write(w io.Writer, at time.Time) error {
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(b)) {
		h := &tar.Header{Name: "sriov-dump/" + name, Mode: 0o600, Size: int64(len(b[name])), ModTime: at}
		if err := archive.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(archive, bytes.NewReader(b[name])); err != nil {
			return err
		}
	}
	return cmp.Or(archive.Close(), zipped.Close())
}
