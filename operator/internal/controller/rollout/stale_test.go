// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/controller/lagtest"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

func daemonSetOf(uid string) *appsv1.DaemonSet {
	ds := deploy.Daemon(deploy.Options{Namespace: "ns"}, deploy.Images{Daemon: "ours:1"}, &v1.SriovOperatorConfigSpec{})
	ds.UID = types.UID(uid)
	return ds
}

// The cache shows the DaemonSet of another operator after it was replaced by ours: ours
// stays. One that the cache does not show at all is replaced too, not merged with.
func TestOwnDaemonSetIsNotReplacedByAStaleCache(t *testing.T) {
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "default", UID: "cfg"}}
	theirs := daemonSetOf("theirs")
	theirs.Spec.Template.Spec.Containers[0].Env = append(theirs.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "THEIRS"})
	for name, shows := range map[string]bool{"shows it": true, "does not": false} {
		t.Run("the cache "+name, func(t *testing.T) {
			s := lagtest.NewStale(t, fake.NewClientBuilder().WithScheme(lagtest.Scheme(t)).WithObjects(theirs.DeepCopy()))
			r := &reconciler{Client: s.APIClient(), Live: s.WithWatch}
			if !shows {
				s.Shows[lagtest.KeyOf(theirs)] = nil
			}
			require.NoError(t, r.own(t.Context(), cfg, daemonSetOf("")))
			var now appsv1.DaemonSet
			require.NoError(t, s.WithWatch.Get(t.Context(), client.ObjectKeyFromObject(theirs), &now))
			require.NotContains(t, now.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "THEIRS"})
			now.UID = "ours"
			require.NoError(t, s.Update(t.Context(), &now))

			s.Shows[lagtest.KeyOf(theirs)] = theirs
			require.True(t, apierrors.IsConflict(r.own(t.Context(), cfg, daemonSetOf(""))))
			require.NoError(t, s.WithWatch.Get(t.Context(), client.ObjectKeyFromObject(theirs), &now))
			require.EqualValues(t, "ours", now.UID)
		})
	}
}

// What is as it is to be is not applied again; what somebody changed, or what is to be
// otherwise now, is.
func TestApplyOfTheSameWritesNothing(t *testing.T) {
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "default", UID: "cfg"}}
	s := lagtest.NewStale(t, fake.NewClientBuilder().WithScheme(lagtest.Scheme(t)))
	own := func(change func(*appsv1.DaemonSet)) int {
		t.Helper()
		before := s.Applies
		ds := daemonSetOf("")
		change(ds)
		require.NoError(t, (&reconciler{Client: s.APIClient(), Live: s.WithWatch}).own(t.Context(), cfg, ds)) // of a process that has just started
		return s.Applies - before
	}
	same := func(*appsv1.DaemonSet) {}
	require.Equal(t, 1, own(same))
	require.Equal(t, 0, own(same))
	var now appsv1.DaemonSet
	require.NoError(t, s.WithWatch.Get(t.Context(), client.ObjectKeyFromObject(daemonSetOf("")), &now))
	now.Spec.Template.Spec.Containers[0].Image = "theirs:1"
	require.NoError(t, s.Update(t.Context(), &now))
	require.Equal(t, 1, own(same), "edited by hand")
	require.Equal(t, 0, own(same))
	fewer := func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.PriorityClassName = "" }
	require.Equal(t, 1, own(fewer), "one field less than before")
	require.Equal(t, 0, own(fewer))
}

// What another operator has put into our DaemonSet and webhook configuration goes, whichever
// way it wrote; what others put elsewhere stays.
func TestAdditionsOfOthersGo(t *testing.T) {
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "default", UID: "cfg"}}
	theirs := func(ds *appsv1.DaemonSet) {
		pod := &ds.Spec.Template.Spec
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: "theirs"})
		pod.InitContainers = append(pod.InitContainers, corev1.Container{Name: "theirs", Image: "i"})
		pod.NodeSelector = map[string]string{"theirs": "yes"}
		pod.Containers[0].Args = []string{"theirs"}
		pod.Containers[0].Image = "theirs:1"
		pod.Containers[0].Env = append(pod.Containers[0].Env, corev1.EnvVar{Name: "THEIRS"})
		metav1.SetMetaDataAnnotation(&ds.Spec.Template.ObjectMeta, "kubectl.kubernetes.io/restartedAt", "now")
	}
	for name, write := range map[string]func(t *testing.T, c client.Client, ds *appsv1.DaemonSet){
		"update": func(t *testing.T, c client.Client, ds *appsv1.DaemonSet) {
			theirs(ds)
			require.NoError(t, c.Update(t.Context(), ds, client.FieldOwner("sriov-network-operator")))
		},
		"apply": func(t *testing.T, c client.Client, ds *appsv1.DaemonSet) {
			theirs(ds)
			ds.ManagedFields, ds.ResourceVersion = nil, ""
			data, err := runtime.DefaultUnstructuredConverter.ToUnstructured(ds)
			require.NoError(t, err)
			u := &unstructured.Unstructured{Object: data}
			u.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("DaemonSet"))
			require.NoError(t, c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("argocd-controller"), client.ForceOwnership))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := lagtest.NewStale(t, fake.NewClientBuilder().WithScheme(lagtest.Scheme(t)))
			r := &reconciler{Client: s.APIClient(), Live: s.WithWatch}
			now := func() *appsv1.DaemonSet {
				ds := &appsv1.DaemonSet{}
				require.NoError(t, s.WithWatch.Get(t.Context(), client.ObjectKeyFromObject(daemonSetOf("")), ds))
				return ds
			}
			require.NoError(t, r.own(t.Context(), cfg, daemonSetOf("")))
			before := now()
			write(t, s.WithWatch, now())
			require.Len(t, now().Spec.Template.Spec.InitContainers, 1)
			require.NoError(t, r.own(t.Context(), cfg, daemonSetOf("")))
			require.Equal(t, before.Spec.Template.Spec, now().Spec.Template.Spec)
			require.Equal(t, "now", now().Spec.Template.Annotations["kubectl.kubernetes.io/restartedAt"])
			applies := s.Applies
			require.NoError(t, r.own(t.Context(), cfg, daemonSetOf("")))
			require.Equal(t, applies, s.Applies)
		})
	}
	t.Run("webhooks", func(t *testing.T) {
		s := lagtest.NewStale(t, fake.NewClientBuilder().WithScheme(lagtest.Scheme(t)))
		r := &reconciler{Client: s.APIClient(), Live: s.WithWatch, Operator: env.Operator{Namespace: "ns"}}
		hooks, _ := deploy.Webhooks(&v1.SriovOperatorConfigSpec{EnableInjector: true}, deploy.WebhookClient{Namespace: "ns", CABundle: []byte("ca")}, metav1.OwnerReference{Kind: "Namespace", Name: "ns", UID: "ns"})
		require.Len(t, hooks, 1)
		require.NoError(t, r.hook(t.Context(), hooks[0]))
		var now admissionv1.MutatingWebhookConfiguration
		get := func() { require.NoError(t, s.WithWatch.Get(t.Context(), client.ObjectKeyFromObject(hooks[0]), &now)) }
		get()
		own := now.Webhooks[0].Name
		now.Webhooks[0].TimeoutSeconds = nil
		now.Webhooks[0].ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"platform": "adds"}}
		now.Webhooks = append(now.Webhooks, admissionv1.MutatingWebhook{Name: "theirs.example.com"})
		require.NoError(t, s.Update(t.Context(), &now, client.FieldOwner("sriov-network-operator")))
		require.NoError(t, r.hook(t.Context(), hooks[0]))
		get()
		require.Len(t, now.Webhooks, 1)
		require.Equal(t, own, now.Webhooks[0].Name)
		require.NotNil(t, now.Webhooks[0].ObjectSelector)
	})
}

// The webhooks' Secret goes if the operator made it and nobody wants it, as the API server
// knows.
func TestSecretBehindTheCache(t *testing.T) {
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "default", UID: "cfg"}}
	wanted := cfg.DeepCopy()
	wanted.Spec.EnableInjector = true
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: deploy.WebhookSecret, UID: "secret"}}
	ours := secret.DeepCopy()
	ours.OwnerReferences = []metav1.OwnerReference{{APIVersion: v1.GroupVersion.String(), Kind: "SriovOperatorConfig", Name: "default", UID: "cfg", Controller: new(true)}}
	for name, tc := range map[string]struct {
		cfg    *v1.SriovOperatorConfig
		secret *corev1.Secret
		stays  bool
	}{
		"not wanted":                  {cfg, ours, false},
		"wanted, as others know":      {wanted, ours, true},
		"not wanted, somebody else's": {cfg, secret, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := lagtest.NewStale(t, fake.NewClientBuilder().WithScheme(lagtest.Scheme(t)).WithObjects(tc.cfg.DeepCopy(), tc.secret.DeepCopy(), lagtest.NamespaceOf("ns")))
			s.Shows[lagtest.KeyOf(cfg)] = cfg
			r := &Certificate{Client: s.APIClient(), Live: s.WithWatch, Operator: env.Operator{Namespace: "ns"}, Now: time.Now}
			_, err := r.Reconcile(t.Context(), ctrl.Request{})
			require.NoError(t, err)
			require.Equal(t, tc.stays, s.Has(t, secret.DeepCopy()))
		})
	}
}

// What merely has the name of a part of upstream's installation stays.
func TestRelicsOfOthersStay(t *testing.T) {
	owner := []metav1.OwnerReference{{APIVersion: v1.GroupVersion.String(), Kind: "SriovOperatorConfig", Name: "default", UID: "cfg"}}
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)}
	}
	account := func(name string) []rbacv1.Subject {
		return []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "ns", Name: name}}
	}
	role := func(name string) rbacv1.RoleRef { return rbacv1.RoleRef{Kind: "Role", Name: name} }
	owned := meta("metrics-exporter-sa")
	owned.OwnerReferences = owner
	cluster := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, UID: types.UID(name)} }
	stay := []client.Object{
		&corev1.ConfigMap{ObjectMeta: meta("device-plugin-config"), Data: map[string]string{"config.yaml": "version: v1"}},
		&corev1.ServiceAccount{ObjectMeta: meta("operator-webhook-sa")},
		&rbacv1.Role{ObjectMeta: meta("sriov-plugin")},
		&rbacv1.RoleBinding{ObjectMeta: meta("sriov-device-plugin"), RoleRef: role("sriov-plugin"), Subjects: account("another")},
		&rbacv1.Role{ObjectMeta: meta("network-resources-injector")}, // nobody has it
		&rbacv1.ClusterRole{ObjectMeta: cluster("operator-webhook")},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: cluster("operator-webhook-role-binding"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "operator-webhook"},
			Subjects: append(account("operator-webhook-sa"), account("another")...),
		},
	}
	leave := []client.Object{
		&corev1.ConfigMap{ObjectMeta: meta("supported-nic-ids"), Data: map[string]string{"Intel_igb": "8086 10c9 10ca", "x": "15b3 101d 101e\n"}},
		&corev1.ServiceAccount{ObjectMeta: owned},
		&rbacv1.Role{ObjectMeta: meta("sriov-device-plugin-pod-access")},
		&rbacv1.RoleBinding{ObjectMeta: meta("sriov-device-plugin-pod-access"), RoleRef: role("sriov-device-plugin-pod-access"), Subjects: account("sriov-device-plugin")},
		&rbacv1.ClusterRole{ObjectMeta: cluster("sriov-network-config-daemon")},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: cluster("sriov-network-config-daemon"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "sriov-network-config-daemon"},
			Subjects: account("sriov-network-config-daemon"),
		},
	}
	s := lagtest.NewStale(t, fake.NewClientBuilder().WithScheme(lagtest.Scheme(t)).WithObjects(append(append([]client.Object{}, stay...), leave...)...))
	r := &reconciler{Client: s.APIClient(), Live: s.WithWatch, Operator: env.Operator{Namespace: "ns"}}
	require.NoError(t, r.clear(t.Context(), &v1.SriovOperatorConfig{}))
	require.True(t, r.cleared)
	for _, o := range stay {
		require.True(t, s.Has(t, o), lagtest.KeyOf(o))
	}
	for _, o := range leave {
		require.False(t, s.Has(t, o), lagtest.KeyOf(o))
	}
}
