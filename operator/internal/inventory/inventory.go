// SPDX-License-Identifier: Apache-2.0

// Package inventory reads from a cluster what "kubectl sriov" talks about: nodes with their
// PFs and VFs, policies and networks, and the pods and claims that hold VFs. It only reads,
// and what an account may not read is told apart from what is not there.
package inventory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

// DefaultNamespace is the operator's unless the cluster shows another one.
const DefaultNamespace = "sriov-network-operator"

// Inventory is a look at a cluster.
type Inventory struct {
	Namespace string // of the operator
	Prefix    string // of resource names, such as openshift.io

	States      []v1.SriovNetworkNodeState
	Policies    []v1.SriovNetworkNodePolicy
	Networks    []v1.SriovNetwork
	IBNetworks  []v1.SriovIBNetwork
	OVSNetworks []v1.OVSNetwork
	Pools       []v1.SriovNetworkPoolConfig
	Configs     []v1.SriovOperatorConfig
	Attachments []nad.NetworkAttachmentDefinition
	Nodes       []corev1.Node
	Pods        []corev1.Pod
	Claims      []resourcev1.ResourceClaim
	DaemonSets  []appsv1.DaemonSet // of the operator's namespace
	Deployments []appsv1.Deployment

	// Unread says by kind why objects could not be read. Nothing follows from not having
	// seen an object of such a kind.
	Unread map[string]string
}

// Why kinds were not read.
const (
	notAllowed = "this account may not list them"
	noKind     = "the cluster does not know this kind"
)

// Installed reports whether the cluster knows the kinds of SR-IOV; true if that is unknown.
func (inv *Inventory) Installed() bool { return inv.Unread["sriovnetworknodestates"] != noKind }

// pageSize bounds one answer of the API server.
const pageSize = 500

// Read looks at the whole cluster. namespace is the operator's; empty finds it. An error
// means that the cluster does not answer.
func Read(ctx context.Context, c client.Reader, namespace string) (*Inventory, error) {
	inv := &Inventory{Namespace: namespace, Prefix: "openshift.io", Unread: map[string]string{}}
	r := reader{Reader: c, unread: inv.Unread}
	if err := r.first(ctx, inv); err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	in := client.InNamespace(inv.Namespace)
	group.Go(func() error {
		return list(ctx, &r, "nodes", &corev1.NodeList{}, &inv.Nodes, func(l *corev1.NodeList) []corev1.Node { return l.Items })
	})
	group.Go(func() error {
		return list(ctx, &r, "pods", &corev1.PodList{}, &inv.Pods, func(l *corev1.PodList) []corev1.Pod { return l.Items })
	})
	group.Go(func() error {
		return list(ctx, &r, "resourceclaims", &resourcev1.ResourceClaimList{}, &inv.Claims, func(l *resourcev1.ResourceClaimList) []resourcev1.ResourceClaim { return l.Items })
	})
	group.Go(func() error {
		return list(ctx, &r, "network-attachment-definitions", &nad.NetworkAttachmentDefinitionList{}, &inv.Attachments,
			func(l *nad.NetworkAttachmentDefinitionList) []nad.NetworkAttachmentDefinition { return l.Items })
	})
	group.Go(func() error {
		return list(ctx, &r, "sriovnetworks", &v1.SriovNetworkList{}, &inv.Networks, func(l *v1.SriovNetworkList) []v1.SriovNetwork { return l.Items })
	})
	group.Go(func() error {
		return list(ctx, &r, "sriovibnetworks", &v1.SriovIBNetworkList{}, &inv.IBNetworks, func(l *v1.SriovIBNetworkList) []v1.SriovIBNetwork { return l.Items })
	})
	group.Go(func() error {
		return list(ctx, &r, "ovsnetworks", &v1.OVSNetworkList{}, &inv.OVSNetworks, func(l *v1.OVSNetworkList) []v1.OVSNetwork { return l.Items })
	})
	group.Go(func() error {
		return list(ctx, &r, "sriovnetworknodepolicies", &v1.SriovNetworkNodePolicyList{}, &inv.Policies,
			func(l *v1.SriovNetworkNodePolicyList) []v1.SriovNetworkNodePolicy { return l.Items })
	})
	group.Go(func() error {
		return list(ctx, &r, "sriovnetworkpoolconfigs", &v1.SriovNetworkPoolConfigList{}, &inv.Pools,
			func(l *v1.SriovNetworkPoolConfigList) []v1.SriovNetworkPoolConfig { return l.Items }, in)
	})
	group.Go(func() error {
		return list(ctx, &r, "daemonsets", &appsv1.DaemonSetList{}, &inv.DaemonSets, func(l *appsv1.DaemonSetList) []appsv1.DaemonSet { return l.Items }, in)
	})
	group.Go(func() error {
		return list(ctx, &r, "deployments", &appsv1.DeploymentList{}, &inv.Deployments, func(l *appsv1.DeploymentList) []appsv1.Deployment { return l.Items }, in)
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	inv.findPrefix()
	return inv, nil
}

// first reads the node states and configurations, of all namespaces if it may, which tell
// where the operator is.
func (r *reader) first(ctx context.Context, inv *Inventory) error {
	var in []client.ListOption
	if inv.Namespace != "" {
		in = append(in, client.InNamespace(inv.Namespace))
	}
	read := func() error {
		err := list(ctx, r, "sriovoperatorconfigs", &v1.SriovOperatorConfigList{}, &inv.Configs,
			func(l *v1.SriovOperatorConfigList) []v1.SriovOperatorConfig { return l.Items }, in...)
		if err == nil {
			err = list(ctx, r, "sriovnetworknodestates", &v1.SriovNetworkNodeStateList{}, &inv.States,
				func(l *v1.SriovNetworkNodeStateList) []v1.SriovNetworkNodeState { return l.Items }, in...)
		}
		return err
	}
	if err := read(); err != nil {
		return err
	}
	if inv.Namespace == "" && (r.unread["sriovnetworknodestates"] != "" || r.unread["sriovoperatorconfigs"] != "") {
		// Perhaps the account may read the operator's namespace alone.
		clear(r.unread)
		in = []client.ListOption{client.InNamespace(DefaultNamespace)}
		if err := read(); err != nil {
			return err
		}
	}
	if inv.Namespace == "" {
		inv.Namespace = DefaultNamespace
		for i := range inv.Configs {
			if inv.Configs[i].Name == v1.DefaultConfigName {
				inv.Namespace = inv.Configs[i].Namespace
			}
		}
		if len(inv.Configs) == 0 && len(inv.States) > 0 {
			inv.Namespace = inv.States[0].Namespace
		}
	}
	return nil
}

type reader struct {
	client.Reader
	mu     sync.Mutex
	unread map[string]string
}

// list reads all objects of a kind, page by page. What the API server answers for one kind
// alone, such as that a webhook of it is away, is noted; an answer about the account is an error.
func list[L client.ObjectList, T any](ctx context.Context, r *reader, kind string, empty L, into *[]T, items func(L) []T, options ...client.ListOption) error {
	*into = nil
	limit := int64(pageSize)
	for next := ""; ; {
		page := empty.DeepCopyObject().(L) // a new one: JSON leaves what it does not mention
		err := r.List(ctx, page, append([]client.ListOption{client.Limit(limit), client.Continue(next)}, options...)...)
		switch {
		case apierrors.IsResourceExpired(err) && next != "":
			// Pages are of one moment, which the API server does not keep for ever.
			*into, next, limit = nil, "", 0
			continue
		case apierrors.IsForbidden(err):
			r.note(kind, notAllowed)
			return nil
		case meta.IsNoMatchError(err), apierrors.IsNotFound(err):
			if kind != "resourceclaims" { // before Kubernetes 1.34, where no VF is had by a claim
				r.note(kind, noKind)
			}
			return nil
		case apierrors.ReasonForError(err) != metav1.StatusReasonUnknown && !apierrors.IsUnauthorized(err):
			*into = nil
			r.note(kind, "the API server answers: "+err.Error())
			return nil
		case err != nil:
			return fmt.Errorf("list %s: %w", kind, err)
		}
		*into = append(*into, items(page)...)
		if next = page.GetContinue(); next == "" {
			return nil
		}
	}
}

func (r *reader) note(kind, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unread[kind] = why
}

// findPrefix reads the prefix of resources where the operator wrote it down.
func (inv *Inventory) findPrefix() {
	for i := range inv.DaemonSets {
		if inv.DaemonSets[i].Name != deploy.DevicePluginName {
			continue
		}
		for _, c := range inv.DaemonSets[i].Spec.Template.Spec.Containers {
			for _, arg := range c.Args {
				if prefix, ok := strings.CutPrefix(arg, "--resource-prefix="); ok {
					inv.Prefix = prefix
				}
			}
		}
	}
}

// Missed lists what could not be read and why, for people.
func (inv *Inventory) Missed() []string {
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(inv.Unread)) {
		out = append(out, kind+": "+inv.Unread[kind])
	}
	return out
}

// Resource is the full name of a policy's or network's resource.
func (inv *Inventory) Resource(name string) string { return inv.Prefix + "/" + name }

// State returns the state of a node, if there is one.
func (inv *Inventory) State(node string) *v1.SriovNetworkNodeState {
	for i := range inv.States {
		if inv.States[i].Name == node && inv.States[i].Namespace == inv.Namespace {
			return &inv.States[i]
		}
	}
	return nil
}

// Node returns a node, if it was seen.
func (inv *Inventory) Node(name string) *corev1.Node {
	for i := range inv.Nodes {
		if inv.Nodes[i].Name == name {
			return &inv.Nodes[i]
		}
	}
	return nil
}
