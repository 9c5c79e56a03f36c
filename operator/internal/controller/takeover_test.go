// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controlplane"
)

// An installation of the upstream operator, made in each of the ways in which people make
// one, is taken over by applying ours, and ours by applying it again.
func TestUpstreamIsTakenOver(t *testing.T) {
	controlplane.Need(t)
	t.Parallel() // a control plane of its own, and long waits for it
	program := buildOperator(t)
	manifests, err := os.ReadFile("testdata/upstream/installation.yaml")
	require.NoError(t, err)
	theirs := string(manifests)
	chart := strings.ReplaceAll(theirs, "metadata: {name", "metadata: {labels: {app.kubernetes.io/managed-by: Helm}, annotations: {meta.helm.sh/release-name: sriov}, name")
	plain := strings.Replace(theirs, "  strategy: {type: Recreate}\n", "", 1)
	clientSide, serverSide := []string{"apply", "-f", "-"}, []string{"apply", "--server-side", "--force-conflicts", "-f", "-"}
	ours := []string{"apply", "-k", "../../config"}
	oursServerSide := []string{"apply", "--server-side", "--force-conflicts", "-k", "../../config"}
	type shape struct {
		manifests            string
		install, over, again []string
	}
	shapes := map[string]shape{
		"kustomize":                    {plain, clientSide, ours, clientSide},
		"kustomize, ours server-side":  {plain, clientSide, oursServerSide, serverSide},
		"chart":                        {chart, []string{"create", "--field-manager=helm", "-f", "-"}, ours, nil}, // nobody installs a chart over what is not its own
		"chart, ours server-side":      {chart, []string{"create", "--field-manager=helm", "-f", "-"}, oursServerSide, nil},
		"server-side":                  {theirs, serverSide, ours, nil}, // two field managers: the strategy of ours stays
		"server-side, ours the same":   {theirs, serverSide, oursServerSide, serverSide},
		"a chart's server-side apply":  {chart, append(serverSide, "--field-manager=helm"), ours, nil},
		"another tool's, ours forcing": {theirs, append(serverSide, "--field-manager=argocd-controller"), oursServerSide, nil},
	}
	// Those of a release, rendered, with their kinds: make test-takeover UPSTREAM=FILE MADE=FILE.
	whole, made := "", ""
	released := map[string]bool{"a release": true, "a release, server-side": true}
	if path := os.Getenv("SRIOVKIT_UPSTREAM"); path != "" {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		whole = string(text)
		if path := os.Getenv("SRIOVKIT_UPSTREAM_MADE"); path != "" { // by its operator: nobody applies that again
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			made = "\n---\n" + string(text)
		}
		shapes = map[string]shape{
			"a release":              {whole, clientSide, ours, clientSide},
			"a release, server-side": {whole, serverSide, oursServerSide, serverSide},
		}
	}
	for name, tc := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &cluster{}
			kubectl := func(input string, args ...string) {
				t.Helper()
				out, err := c.plane.Kubectl(t.Context(), strings.NewReader(input), args...)
				require.NoError(t, err, out)
			}
			started, err := startPlane(t.Context(), controlplane.Config{}, func(plane *controlplane.ControlPlane) error {
				c.plane = plane
				if !released[name] {
					kubectl("", "apply", "-k", "../../config/crd")
				}
				kubectl(tc.manifests+made, tc.install...)
				kubectl("", tc.over...)
				return nil
			})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, started.plane.Close()) })
			*c = *started
			c.taken(t, program)
			if !released[name] {
				require.NoError(t, c.Get(ctx, client.ObjectKey{Name: "network-resources-injector-role-binding"}, &rbacv1.ClusterRoleBinding{}), "of an injector elsewhere")
			}
			if tc.again == nil {
				return
			}
			t.Log("and back")
			kubectl(tc.manifests, tc.again...)
			var d appsv1.Deployment
			require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: ns, Name: "sriov-network-operator"}, &d))
			require.Len(t, d.Spec.Template.Spec.Containers, 1)
			require.Equal(t, []string{"sriov-network-operator"}, d.Spec.Template.Spec.Containers[0].Command)
			require.NoError(t, c.Get(ctx, client.ObjectKey{Name: "sriov-network-config-daemon"}, &rbacv1.ClusterRole{}))
			if name != "kustomize" {
				return
			}
			t.Log("and over again: the DaemonSet is one that this operator knows, with what theirs has put into it meanwhile")
			daemon := client.ObjectKey{Namespace: ns, Name: "sriov-network-config-daemon"}
			var between appsv1.DaemonSet
			require.NoError(t, c.Get(ctx, daemon, &between))
			pod := &between.Spec.Template.Spec
			pod.Volumes = append(pod.Volumes, corev1.Volume{Name: "theirs"})
			pod.InitContainers = append(pod.InitContainers, corev1.Container{Name: "theirs", Image: "upstream.test/cni:1"})
			pod.NodeSelector = map[string]string{"theirs": "yes"}
			pod.Containers[0].Args = []string{"start", "--use-local-units"}
			pod.Containers[0].VolumeMounts = append(pod.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "theirs", MountPath: "/theirs"})
			require.NoError(t, c.Update(ctx, &between, client.FieldOwner("sriov-network-operator")))
			kubectl("", tc.over...)
			defer c.run(t, program)()
			c.eventually(t, func(t *assert.CollectT) {
				var ds appsv1.DaemonSet
				require.NoError(t, c.Get(ctx, daemon, &ds))
				require.Equal(t, between.UID, ds.UID)
				require.NotContains(t, ds.Spec.String(), "theirs")
				require.Empty(t, ds.Spec.Template.Spec.InitContainers)
				require.Len(t, ds.Spec.Template.Spec.Containers, 1)
				require.Empty(t, ds.Spec.Template.Spec.Containers[0].Args)
				require.Equal(t, "operator:test", ds.Spec.Template.Spec.Containers[0].Image)
				require.Equal(t, "/sriovkit-operator", ds.Spec.Template.Spec.Containers[0].Command[0])
				require.True(t, apierrors.IsNotFound(c.Get(ctx, client.ObjectKey{Name: "sriov-network-config-daemon"}, &rbacv1.ClusterRole{})))
			})
		})
	}
}

// taken checks that what runs is ours, and that nothing is left of the others' rights once
// our operator has run.
func (c *cluster) taken(t *testing.T, program string) {
	t.Helper()
	var d appsv1.Deployment
	require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: ns, Name: "sriov-network-operator"}, &d))
	require.Len(t, d.Spec.Template.Spec.Containers, 1)
	container := d.Spec.Template.Spec.Containers[0]
	require.Equal(t, []string{"/sriovkit-operator", "operator"}, append(container.Command, container.Args...))
	require.Equal(t, "sriovkit/operator:dev", container.Image)
	for _, e := range container.Env {
		require.NotContains(t, e.Value, "upstream.test", e.Name)
	}
	var plugin appsv1.DaemonSet
	plugin.Namespace, plugin.Name = ns, "sriov-network-config-daemon"
	require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(&plugin), &plugin))

	stop := c.run(t, program, "CREATE_DEFAULT_CONFIG=true")
	defer stop()
	c.eventually(t, func(t *assert.CollectT) {
		var now appsv1.DaemonSet
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(&plugin), &now))
		require.NotEqual(t, plugin.UID, now.UID, "replaced, not merged with")
		for _, gone := range []client.Object{
			&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "sriov-network-config-daemon"}},
			&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "sriov-network-config-daemon"}},
			&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "operator-webhook"}},
			&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "operator-webhook-role-binding"}},
			&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "sriov-device-plugin-pod-access"}},
			&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "sriov-device-plugin-pod-access"}},
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "operator-webhook-sa"}},
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "device-plugin-config"}},
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "supported-nic-ids"}},
		} {
			require.True(t, apierrors.IsNotFound(c.Get(ctx, client.ObjectKeyFromObject(gone), gone)), "%T %s", gone, gone.GetName())
		}
		var cfg v1.SriovOperatorConfig
		require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: ns, Name: "default"}, &cfg))
		ready := condition(t, cfg.Status.Conditions, v1.ConditionReady)
		require.Equal(t, metav1.ConditionTrue, ready.Status, ready.Message)
	})
	for account, rights := range map[string][]string{
		"sriov-network-config-daemon": {"patch nodes", "update nodes", "delete pods", "update sriovnetworknodepolicies.sriovnetwork.openshift.io"},
		"sriov-device-plugin":         {"update pods", "patch pods"},
		"operator-webhook-sa":         {"list nodes", "list configmaps"},
		"sriov-network-operator":      {"delete pods", "get secrets", "update nodes"},
	} {
		for _, right := range rights {
			verb, resource, _ := strings.Cut(right, " ")
			out, _ := c.plane.Kubectl(ctx, nil, "auth", "can-i", verb, resource, "-n", ns, "--as=system:serviceaccount:"+ns+":"+account)
			require.Equal(t, "no", strings.TrimSpace(out), "%s may %s", account, right)
		}
	}
}
