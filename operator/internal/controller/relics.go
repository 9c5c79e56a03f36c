// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// relics are what an installation of the upstream operator leaves behind when ours is
// applied over it, by the names of its manifests and of its chart. Its rights are the
// reason to clear up: with them every daemon may write to every Node.
var relics = struct {
	daemonSets      []string // their work is done elsewhere now, and they hold ports of the nodes
	clusterRoles    [][2]string
	roles, bindings []string
	accounts, maps  []string
}{
	daemonSets: []string{"operator-webhook", "network-resources-injector", "sriov-network-metrics-exporter"},
	clusterRoles: [][2]string{ // and their bindings
		{"sriov-network-config-daemon", "sriov-network-config-daemon"},
		{"operator-webhook", "operator-webhook-role-binding"},
		{"network-resources-injector", "network-resources-injector-role-binding"},
		{"sriov-metrics-kube-rbac-role", "sriov-metrics-kube-rbac-rolebinding"},
	},
	roles:    []string{"network-resources-injector", "operator-webhook-sa", "metrics-exporter-role", "sriov-plugin", "sriov-device-plugin-pod-access"},
	bindings: []string{"network-resources-injector-role-binding", "operator-webhook-sa", "metrics-exporter-rb", "sriov-device-plugin", "sriov-device-plugin-pod-access"},
	accounts: []string{"operator-webhook-sa", "network-resources-injector-sa", "metrics-exporter-sa"},
	maps:     []string{"device-plugin-config", "supported-nic-ids"},
}

// clear deletes the relics: DaemonSets whenever they are met, the rest once after the start.
func (r *Config) clear(ctx context.Context, cfg *v1.SriovOperatorConfig) error {
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

// clearCluster deletes rights over the cluster that accounts of this namespace have. The
// role goes before the binding, which tells whose they are.
func (r *Config) clearCluster(ctx context.Context) error {
	var errs []error
	for _, names := range relics.clusterRoles {
		binding := &rbacv1.ClusterRoleBinding{}
		binding.Name = names[1]
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(binding), binding); err != nil {
			errs = append(errs, client.IgnoreNotFound(err))
			continue
		}
		ours := binding.RoleRef.Kind == "ClusterRole" && binding.RoleRef.Name == names[0] && len(binding.Subjects) > 0
		for _, s := range binding.Subjects {
			ours = ours && s.Kind == rbacv1.ServiceAccountKind && s.Namespace == r.Namespace
		}
		if !ours {
			continue
		}
		role := &rbacv1.ClusterRole{}
		role.Name = names[0]
		if err := client.IgnoreNotFound(r.Delete(ctx, role)); err != nil {
			errs = append(errs, fmt.Errorf("delete ClusterRole %s of the upstream operator: %w", role.Name, err))
			continue
		}
		if err := client.IgnoreNotFound(r.Delete(ctx, binding, client.Preconditions{UID: &binding.UID})); err != nil {
			errs = append(errs, fmt.Errorf("delete ClusterRoleBinding %s of the upstream operator: %w", binding.Name, err))
		}
	}
	return errors.Join(errs...)
}

// clearNamespace deletes what else there is, in the operator's own namespace.
func (r *Config) clearNamespace(ctx context.Context) error {
	var errs []error
	for _, kind := range []struct {
		names []string
		empty func() client.Object
	}{
		{relics.bindings, func() client.Object { return &rbacv1.RoleBinding{} }},
		{relics.roles, func() client.Object { return &rbacv1.Role{} }},
		{relics.accounts, func() client.Object { return &corev1.ServiceAccount{} }},
		{relics.maps, func() client.Object { return &corev1.ConfigMap{} }},
	} {
		for _, name := range kind.names {
			obj := kind.empty()
			obj.SetNamespace(r.Namespace)
			obj.SetName(name)
			if err := client.IgnoreNotFound(r.Delete(ctx, obj)); err != nil {
				errs = append(errs, fmt.Errorf("delete %T %s of the upstream operator: %w", obj, name, err))
			}
		}
	}
	return errors.Join(errs...)
}
