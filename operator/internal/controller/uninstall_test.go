// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controlplane"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// run starts the program with the rights of its account until the returned function is
// called. In this process it would share its metrics with the tests' own operator.
func (c *cluster) run(t *testing.T, program string, env ...string) (stop func()) {
	t.Helper()
	cmd := c.netns.Command(context.WithoutCancel(t.Context()), program, arguments(c.kubeconfig(t), "-webhook-bind-address="+c.address)...)
	cmd.Env = slices.Concat(env, []string{"NAMESPACE=" + ns, "RESOURCE_PREFIX=" + prefix, "SRIOV_NETWORK_CONFIG_DAEMON_IMAGE=operator:test"})
	var log bytes.Buffer
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait(), "%s", &log)
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return stop
}

// arguments of the program. Nobody here starts it again if it loses its lease because the
// machine is too busy to renew that in time.
func arguments(kubeconfig string, more ...string) []string {
	return append([]string{
		"operator", "-kubeconfig", kubeconfig, "-metrics-bind-address=0", "-health-probe-bind-address=0", "-webhook-bind-address=0",
		"-leader-elect-lease-duration=30m", "-leader-elect-renew-deadline=10m",
	}, more...)
}

// buildOperator builds the program as it is shipped.
func buildOperator(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "operator")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "../../cmd/sriovkit-operator")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off") // as it is shipped
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

// podAddress is where the operator listens as a pod would. An endpoint is not allowed to
// be on 127.0.0.0/8, so it is an address of a network namespace of the test's own.
const podAddress = "10.244.0.2"

// serve leads the Service of the manifests to the address of the webhooks, as it would to
// a pod.
func (c *cluster) serve(t *testing.T) {
	t.Helper()
	require.NoError(t, c.netns.IP(t.Context(), "address", "add", podAddress+"/32", "dev", "lo"))
	c.address = podAddress + ":9443"
	require.NoError(t, c.Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: ns, Name: "operator", Labels: map[string]string{discoveryv1.LabelServiceName: deploy.WebhookService}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{podAddress}}},
		Ports: []discoveryv1.EndpointPort{{Name: new("webhook"), Port: new(int32(9443))}},
	}))
}

// kubeconfig is an admin's that acts as the operator's account.
func (c *cluster) kubeconfig(t *testing.T) string {
	t.Helper()
	cfg, err := clientcmd.LoadFromFile(c.plane.Kubeconfig)
	require.NoError(t, err)
	as := c.as("sriov-network-operator", nil).Impersonate
	for _, user := range cfg.AuthInfos {
		user.Impersonate, user.ImpersonateGroups = as.UserName, as.Groups
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*cfg, path))
	return path
}

// hooks lists the webhook configurations of the cluster.
func (c *cluster) hooks(t require.TestingT) []string {
	var m admissionv1.MutatingWebhookConfigurationList
	var v admissionv1.ValidatingWebhookConfigurationList
	require.NoError(t, c.List(ctx, &m))
	require.NoError(t, c.List(ctx, &v))
	var out []string
	for i := range m.Items {
		out = append(out, "mutating/"+m.Items[i].Name)
	}
	for i := range v.Items {
		out = append(out, "validating/"+v.Items[i].Name)
	}
	slices.Sort(out)
	return out
}

// The life of webhook configurations on a control plane that collects garbage, with
// the operator behind its Service: taken
// over from upstream, out of the way while no operator answers, and gone with the
// configuration, with the namespace, and with everything.
func TestWebhooksDoNotOutliveTheOperator(t *testing.T) {
	controlplane.Need(t)
	t.Parallel()                                                                                                                                     // a control plane of its own, and long waits for it
	c, err := startPlane(t.Context(), controlplane.Config{Namespace: true, Controllers: true, ServerFlags: []string{"--enable-aggregator-routing"}}) // to endpoints: nobody routes Services
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.plane.Close()) })
	c.serve(t)
	program := buildOperator(t)
	gone := func() {
		t.Helper()
		c.eventually(t, func(t *assert.CollectT) { require.Empty(t, c.hooks(t)) })
	}

	t.Log("what upstream left fails every policy; nobody asked for a webhook, so it goes")
	relic := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: policyHook}}
	relic.Webhooks = []admissionv1.MutatingWebhook{hookTo(ns, "operator-webhook-service")}
	relic.Webhooks[0].Rules[0].Resources = []string{"sriovnetworknodepolicies"}
	require.NoError(t, c.Create(ctx, relic))
	l := c.listener(t)
	c.eventually(t, func(t *assert.CollectT) {
		_, err := l.try(policy("p", "x"))
		require.Error(t, err)
	})
	stop := c.run(t, program, "CREATE_DEFAULT_CONFIG=true")
	gone()
	c.eventually(t, func(t *assert.CollectT) {
		_, err := l.try(policy("p", "x"))
		require.NoError(t, err)
	})

	t.Log("enabled: policies are refused, pods get resources")
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default"}}
	enable := func(s *v1.SriovOperatorConfigSpec) {
		s.EnableInjector, s.EnableOperatorWebhook = true, true
		s.FeatureGates = map[string]bool{"resourceInjectorMatchCondition": true}
	}
	c.edit(t, cfg, func() { enable(&cfg.Spec) })
	c.settled(t, cfg)
	all := []string{"mutating/" + podHook, "mutating/" + policyHook, "validating/" + policyHook}
	require.Equal(t, all, c.hooks(t))
	require.Equal(t, deploy.WebhookService, c.hook(t, policyHook).Webhooks[0].ClientConfig.Service.Name)
	bad := func() error { _, err := l.try(policy("p", "x", noVFs)); return err }
	c.eventually(t, func(t *assert.CollectT) { require.True(t, apierrors.IsForbidden(bad())) })

	t.Log("no operator: policies are admitted, and pods but those that ask for networks elsewhere")
	stop()
	c.account(t, ns)
	c.eventually(t, func(t *assert.CollectT) { require.NoError(t, bad()) })
	for _, p := range []*corev1.Pod{asking("default", "", ""), asking(ns, v1.AnnotationNetworks, "x"), asking("kube-system", v1.AnnotationNetworks, "x")} {
		_, err := l.try(p)
		require.NoError(t, err)
	}
	_, err = l.try(asking("default", v1.AnnotationNetworks, "x"))
	require.ErrorContains(t, err, "failed calling webhook")

	t.Log("the configuration was deleted meanwhile: the next operator clears up")
	require.NoError(t, c.Delete(ctx, cfg))
	require.Equal(t, all, c.hooks(t))
	stop = c.run(t, program)
	gone()

	t.Log("deleted under a running operator")
	again := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default"}}
	enable(&again.Spec)
	require.NoError(t, c.Create(ctx, again.DeepCopy()))
	c.settled(t, again)
	require.Equal(t, all, c.hooks(t))
	require.NoError(t, c.Delete(ctx, again))
	gone()
	c.eventually(t, func(t *assert.CollectT) {
		require.True(t, apierrors.IsNotFound(c.Get(ctx, client.ObjectKey{Namespace: ns, Name: secretName}, &corev1.Secret{})))
	})

	t.Log("uninstalled with no operator to help: garbage collection takes them")
	again.ResourceVersion, again.UID = "", ""
	again.Status = v1.SriovOperatorConfigStatus{}
	require.NoError(t, c.Create(ctx, again))
	c.settled(t, again)
	require.Equal(t, all, c.hooks(t))
	stop()
	said, err := c.plane.Kubectl(t.Context(), nil, "delete", "-k", "../../config", "--timeout=5m")
	require.NoError(t, err, said)
	gone()
	left, err := c.plane.Kubectl(t.Context(), nil, "get", "crds,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,namespaces", "-o", "name")
	require.NoError(t, err)
	require.NotContains(t, left, "sriov")
}
