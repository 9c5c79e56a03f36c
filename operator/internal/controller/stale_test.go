// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

// stale is an API server that the reconcilers see through a cache of some time ago, object
// by object: what is in shows was there then (nil: was not).
type stale struct {
	client.WithWatch
	shows   map[string]client.Object // by kind and name
	applies int
}

func (s *stale) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	obj.SetName(key.Name)
	was, hidden := s.shows[keyOf(obj)]
	switch {
	case hidden && was == nil:
		return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	case hidden:
		data, err := runtime.DefaultUnstructuredConverter.ToUnstructured(was)
		if err != nil {
			return err
		}
		return runtime.DefaultUnstructuredConverter.FromUnstructured(data, obj)
	}
	return s.WithWatch.Get(ctx, key, obj, opts...)
}

func newStale(t *testing.T, objects ...client.Object) *stale {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1.AddToScheme, nad.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	s := &stale{shows: map[string]client.Object{}}
	s.WithWatch = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithReturnManagedFields().
		WithIndex(&nad.NetworkAttachmentDefinition{}, OwnerIndex, Owner).
		WithInterceptorFuncs(interceptor.Funcs{
			Apply: func(ctx context.Context, c client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
				s.applies++
				return c.Apply(ctx, obj, opts...)
			},
			// The fake knows no precondition by UID.
			Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
				var o client.DeleteOptions
				o.ApplyOptions(opts)
				now := obj.DeepCopyObject().(client.Object)
				if err := c.Get(ctx, client.ObjectKeyFromObject(obj), now); err != nil {
					return err
				}
				if o.Preconditions == nil || o.Preconditions.UID == nil {
					t.Errorf("deletion of %s without a precondition", keyOf(obj))
				} else if now.GetUID() != *o.Preconditions.UID {
					return apierrors.NewConflict(schema.GroupResource{}, obj.GetName(), nil)
				}
				return c.Delete(ctx, obj, opts...)
			},
		}).Build()
	return s
}

func (s *stale) has(t *testing.T, obj client.Object) bool {
	t.Helper()
	err := s.WithWatch.Get(t.Context(), client.ObjectKeyFromObject(obj), obj)
	require.NoError(t, client.IgnoreNotFound(err))
	return err == nil
}

func (s *stale) client() *Client { return &Client{Client: s} }

func namespaceOf(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("ns-" + name)}}
}

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
			s := newStale(t, theirs.DeepCopy())
			r := &Config{Client: s.client(), Live: s.WithWatch}
			if !shows {
				s.shows[keyOf(theirs)] = nil
			}
			require.NoError(t, r.own(t.Context(), cfg, daemonSetOf("")))
			var now appsv1.DaemonSet
			require.NoError(t, s.WithWatch.Get(t.Context(), client.ObjectKeyFromObject(theirs), &now))
			require.NotContains(t, now.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "THEIRS"})
			now.UID = "ours"
			require.NoError(t, s.Update(t.Context(), &now))

			s.shows[keyOf(theirs)] = theirs
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
	s := newStale(t)
	own := func(change func(*appsv1.DaemonSet)) int {
		t.Helper()
		before := s.applies
		ds := daemonSetOf("")
		change(ds)
		require.NoError(t, (&Config{Client: s.client(), Live: s.WithWatch}).own(t.Context(), cfg, ds)) // of a process that has just started
		return s.applies - before
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

// The state of a node is kept while the API server has the node, whatever caches show.
func TestStateOfANodeThatIsThereIsKept(t *testing.T) {
	node := nodeMeta()
	node.Name, node.Labels = "n", map[string]string{"kubernetes.io/os": "linux"}
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "default"}}
	cfg.Spec.ConfigDaemonNodeSelector = map[string]string{"kubernetes.io/os": "linux"}
	state := &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "n", UID: "state"}}
	s := newStale(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: node.Labels}}, cfg, state, namespaceOf("ns"))
	r := &NodePlanner{Client: s.client(), Live: s.WithWatch, Operator: Operator{Namespace: "ns"}, Board: &Board{Changed: func([]string) {}}}
	req := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(state)}
	s.shows[keyOf(node)] = nil
	result, err := r.Reconcile(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, conflictAgain, result.RequeueAfter)
	require.True(t, s.has(t, state.DeepCopy()))

	require.NoError(t, s.Delete(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, client.Preconditions{UID: new(types.UID(""))}))
	_, err = r.Reconcile(t.Context(), req)
	require.NoError(t, err)
	require.False(t, s.has(t, state.DeepCopy()))
}

// A network that is moved and moved back keeps its NAD: what an older version of it says is
// not carried out against a newer one. Nor does a NAD that the cache does not show yet make
// the network fail.
func TestNetworkBehindTheCache(t *testing.T) {
	net := &v1.SriovNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "net", UID: "net", Generation: 3}}
	net.Spec.ResourceName, net.Spec.NetworkNamespace = "r", "a"
	s := newStale(t, net, namespaceOf("ns"), namespaceOf("a"), namespaceOf("b"))
	r := &Network{Client: s.client(), Operator: Operator{Namespace: "ns", ResourcePrefix: "x.io"}, Live: s.WithWatch, Kind: "SriovNetwork"}
	provide := func(n *v1.SriovNetwork) error {
		_, err := r.provide(t.Context(), &network{Object: n, status: &n.Status})
		return err
	}
	require.NoError(t, provide(net))
	made := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "net"}}
	require.True(t, s.has(t, made))
	s.shows[keyOf(made)] = nil
	require.NoError(t, provide(net), "made by a pass that the cache does not show yet")
	delete(s.shows, keyOf(made))

	before := net.DeepCopy()
	before.Generation, before.Spec.NetworkNamespace = 2, "b"
	require.True(t, apierrors.IsConflict(provide(before)))
	require.True(t, s.has(t, made), "which the newest version wants")
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
			s := newStale(t, tc.cfg.DeepCopy(), tc.secret.DeepCopy(), namespaceOf("ns"))
			s.shows[keyOf(cfg)] = cfg
			r := &Certificate{Client: s.client(), Live: s.WithWatch, Operator: Operator{Namespace: "ns"}, Now: time.Now}
			_, err := r.Reconcile(t.Context(), ctrl.Request{})
			require.NoError(t, err)
			require.Equal(t, tc.stays, s.has(t, secret.DeepCopy()))
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
	s := newStale(t, append(append([]client.Object{}, stay...), leave...)...)
	r := &Config{Client: s.client(), Live: s.WithWatch, Operator: Operator{Namespace: "ns"}}
	require.NoError(t, r.clear(t.Context(), &v1.SriovOperatorConfig{}))
	require.True(t, r.cleared)
	for _, o := range stay {
		require.True(t, s.has(t, o), keyOf(o))
	}
	for _, o := range leave {
		require.False(t, s.has(t, o), keyOf(o))
	}
}
