// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// relics are what an installation of the upstream operator leaves behind when ours is
// applied over it, by the names of its manifests and of its chart. They are deleted because of
// its rights, by which every daemon may write to every Node. A name alone does not identify
// them: what the upstream operator made has the configuration as its owner, and the rest is
// recognized by its content.
var relics = struct {
	daemonSets []string // their work is done elsewhere now, and they hold ports of the nodes
	cluster    []grant
	namespaced []grant
	accounts   []string
	maps       []string
}{
	daemonSets: []string{"operator-webhook", "network-resources-injector", "sriov-network-metrics-exporter"},
	cluster: []grant{
		{"sriov-network-config-daemon", "sriov-network-config-daemon", "sriov-network-config-daemon"},
		{"operator-webhook", "operator-webhook-role-binding", "operator-webhook-sa"},
		{"network-resources-injector", "network-resources-injector-role-binding", "network-resources-injector-sa"},
		{"sriov-metrics-kube-rbac-role", "sriov-metrics-kube-rbac-rolebinding", "metrics-exporter-sa"},
	},
	namespaced: []grant{
		{"network-resources-injector", "network-resources-injector-role-binding", "network-resources-injector-sa"},
		{"operator-webhook-sa", "operator-webhook-sa", "operator-webhook-sa"},
		{"metrics-exporter-role", "metrics-exporter-rb", "metrics-exporter-sa"},
		{"sriov-plugin", "sriov-device-plugin", "sriov-device-plugin"},
		{"sriov-device-plugin-pod-access", "sriov-device-plugin-pod-access", "sriov-device-plugin"},
	},
	accounts: []string{"operator-webhook-sa", "network-resources-injector-sa", "metrics-exporter-sa"},
	maps:     []string{"device-plugin-config", "supported-nic-ids"},
}

// grant of a role to one account of the operator's namespace.
type grant struct{ role, binding, account string }

// by reports whether a binding is the grant, and of nothing else.
func (g grant) by(ref rbacv1.RoleRef, subjects []rbacv1.Subject, namespace string) bool {
	return ref.Name == g.role && len(subjects) == 1 && subjects[0].Kind == rbacv1.ServiceAccountKind &&
		subjects[0].Name == g.account && subjects[0].Namespace == namespace
}

// ofConfig reports whether an owner is a configuration: the one that there is, or one that
// garbage collection has still to notice is gone.
func ofConfig(o *metav1.OwnerReference) bool {
	return o.Kind == "SriovOperatorConfig" && o.APIVersion == v1.GroupVersion.String()
}

// clear deletes the relics: DaemonSets whenever they are met, the rest once after the start.
func (r *reconciler) clear(ctx context.Context, cfg *v1.SriovOperatorConfig) error {
	for _, name := range relics.daemonSets {
		var ds appsv1.DaemonSet
		if err := r.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: name}, &ds); client.IgnoreNotFound(err) != nil {
			return err
		}
		if !metav1.IsControlledBy(&ds, cfg) {
			continue
		}
		if err := r.Delete(ctx, &ds, client.PropagationPolicy(metav1.DeletePropagationBackground)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete DaemonSet %s of the upstream operator: %w", name, err)
		}
	}
	if r.cleared {
		return nil
	}
	err := errors.Join(r.clearCluster(ctx), r.clearNamespace(ctx))
	r.cleared = err == nil
	return err
}

// clearCluster deletes upstream's cluster roles and bindings for accounts of this namespace. The
// role is deleted before the binding: only the binding names the accounts, so after a failure in
// between the next try still finds both.
func (r *reconciler) clearCluster(ctx context.Context) error {
	var errs []error
	for _, g := range relics.cluster {
		binding := &rbacv1.ClusterRoleBinding{}
		switch found, err := r.relic(ctx, binding, g.binding); {
		case !found:
			errs = append(errs, err)
		case binding.RoleRef.Kind == "ClusterRole" && g.by(binding.RoleRef, binding.Subjects, r.Namespace):
			errs = append(errs, r.clearPair(ctx, &rbacv1.ClusterRole{}, g.role, binding))
		}
	}
	return errors.Join(errs...)
}

// clearNamespace deletes what else there is, in the operator's own namespace.
func (r *reconciler) clearNamespace(ctx context.Context) error {
	var errs []error
	for _, g := range relics.namespaced {
		binding := &rbacv1.RoleBinding{}
		switch found, err := r.relic(ctx, binding, g.binding); {
		case !found:
			errs = append(errs, err)
		case binding.RoleRef.Kind == "Role" && g.by(binding.RoleRef, binding.Subjects, r.Namespace):
			errs = append(errs, r.clearPair(ctx, &rbacv1.Role{}, g.role, binding))
		}
	}
	for _, name := range relics.accounts {
		account := &corev1.ServiceAccount{}
		switch found, err := r.relic(ctx, account, name); {
		case !found:
			errs = append(errs, err)
		case slices.ContainsFunc(account.OwnerReferences, func(o metav1.OwnerReference) bool { return ofConfig(&o) }):
			errs = append(errs, r.clearOne(ctx, account))
		}
	}
	for _, name := range relics.maps {
		m := &corev1.ConfigMap{}
		switch found, err := r.relic(ctx, m, name); {
		case !found:
			errs = append(errs, err)
		case slices.ContainsFunc(m.OwnerReferences, func(o metav1.OwnerReference) bool { return ofConfig(&o) }) || listsNICs(m):
			errs = append(errs, r.clearOne(ctx, m))
		}
	}
	return errors.Join(errs...)
}

// nicIDs is a line of upstream's list of NICs: vendor, device of the PF, device of its VFs.
var nicIDs = regexp.MustCompile(`^[0-9a-fA-F]{4} [0-9a-fA-F]{4} [0-9a-fA-F]{4}\s*$`)

// listsNICs reports whether a ConfigMap has nothing but upstream's list of NICs.
func listsNICs(m *corev1.ConfigMap) bool {
	for _, line := range m.Data {
		if !nicIDs.MatchString(line) {
			return false
		}
	}
	return len(m.Data) > 0 && len(m.BinaryData) == 0
}

// relic reads what has the name of one; found is false if there is none.
func (r *reconciler) relic(ctx context.Context, obj client.Object, name string) (found bool, err error) {
	key := client.ObjectKey{Name: name}
	switch obj.(type) {
	case *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding:
	default:
		key.Namespace = r.Namespace
	}
	err = r.Live.Get(ctx, key, obj)
	return err == nil, client.IgnoreNotFound(err)
}

// clearPair deletes a role and then its binding.
func (r *reconciler) clearPair(ctx context.Context, role client.Object, name string, binding client.Object) error {
	found, err := r.relic(ctx, role, name)
	if err != nil {
		return err
	}
	if found {
		if err := r.clearOne(ctx, role); err != nil {
			return err
		}
	}
	return r.clearOne(ctx, binding)
}

func (r *reconciler) clearOne(ctx context.Context, obj client.Object) error {
	if err := client.IgnoreNotFound(r.Delete(ctx, obj)); err != nil {
		return fmt.Errorf("delete %T %s of the upstream operator: %w", obj, obj.GetName(), err)
	}
	return nil
}
