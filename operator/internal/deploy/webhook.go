// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"fmt"
	"net/url"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// Names of the webhook configurations, upstream's, and of what serves them.
const (
	PolicyWebhookName = "sriov-operator-webhook-config"
	InjectorName      = "network-resources-injector-config"
	// WebhookService is in the manifests under config/manager.
	WebhookService = "sriov-network-operator-webhook"
	WebhookSecret  = "sriov-network-operator-webhook"
	// WebhookLabel is on the configurations, so that they can be watched.
	WebhookLabel = "sriovnetwork.openshift.io/webhook"
)

// Paths of the webhook server.
const (
	MutatePath   = "/mutating-custom-resource"
	ValidatePath = "/validating-custom-resource"
	InjectPath   = "/inject-network-resources"
)

// GateInjectorMatch makes the injector's webhook mandatory, for pods that ask for networks.
const GateInjectorMatch = "resourceInjectorMatchCondition"

// webhookTimeout in seconds, of which an answer from caches takes milliseconds: the rest
// is what everybody waits while nobody answers.
const webhookTimeout = 3

// WebhookClient is how API servers reach the webhook server.
type WebhookClient struct {
	Namespace string // of the service
	URL       string // instead of the service: https://host:port
	CABundle  []byte
}

// Hosts that the serving certificate is for.
func (c WebhookClient) Hosts() []string {
	hosts := []string{WebhookService + "." + c.Namespace + ".svc"}
	if u, err := url.Parse(c.URL); err == nil && u.Host != "" {
		hosts = append(hosts, u.Hostname())
	}
	return hosts
}

// CheckWebhookURL says why an API server would not take a URL.
func CheckWebhookURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("webhook URL %q: want https://host:port", s)
	}
	return nil
}

func (c WebhookClient) to(path string) admissionv1.WebhookClientConfig {
	if c.URL != "" {
		return admissionv1.WebhookClientConfig{URL: new(strings.TrimSuffix(c.URL, "/") + path), CABundle: c.CABundle}
	}
	return admissionv1.WebhookClientConfig{
		Service:  &admissionv1.ServiceReference{Namespace: c.Namespace, Name: WebhookService, Path: new(path)},
		CABundle: c.CABundle,
	}
}

// WantsWebhooks reports whether there is anything for a webhook server to do.
func WantsWebhooks(s *v1.SriovOperatorConfigSpec) bool {
	return s.EnableOperatorWebhook || s.EnableInjector
}

// Webhooks describes the webhook configurations that a configuration asks for, and
// those that are not to be. owner, an object of the cluster's scope, takes them along
// when it goes.
func Webhooks(s *v1.SriovOperatorConfigSpec, c WebhookClient, owner metav1.OwnerReference) (wanted, unwanted []client.Object) {
	sort := func(on bool, objects ...client.Object) {
		if on {
			wanted = append(wanted, objects...)
		} else {
			unwanted = append(unwanted, objects...)
		}
	}
	sort(s.EnableOperatorWebhook, mutating(PolicyWebhookName, owner, policyMutation(c)), policyValidation(c, owner))
	sort(s.EnableInjector, mutating(InjectorName, owner, injection(c, s.FeatureGates[GateInjectorMatch])))
	return wanted, unwanted
}

// policyMutation fills in what depends on other fields.
func policyMutation(c WebhookClient) admissionv1.MutatingWebhook {
	return admissionv1.MutatingWebhook{
		Name: "operator-webhook.sriovnetwork.openshift.io", ClientConfig: c.to(MutatePath),
		Rules: rules("sriovnetworknodepolicies"), FailurePolicy: new(admissionv1.Ignore), SideEffects: new(admissionv1.SideEffectClassNone),
		TimeoutSeconds: new(int32(webhookTimeout)), AdmissionReviewVersions: []string{"v1"},
	}
}

// policyValidation refuses what could never work and warns of the rest. It may be out of
// reach without harm: reconcilers report the same on the objects.
func policyValidation(c WebhookClient, owner metav1.OwnerReference) client.Object {
	o := &admissionv1.ValidatingWebhookConfiguration{TypeMeta: typeMeta("ValidatingWebhookConfiguration"), ObjectMeta: objectMeta(PolicyWebhookName, owner)}
	o.Webhooks = []admissionv1.ValidatingWebhook{{
		Name: "operator-webhook.sriovnetwork.openshift.io", ClientConfig: c.to(ValidatePath),
		Rules:         rules("sriovnetworknodepolicies", "sriovnetworkpoolconfigs", "sriovoperatorconfigs", "sriovnetworks", "sriovibnetworks", "ovsnetworks"),
		FailurePolicy: new(admissionv1.Ignore), SideEffects: new(admissionv1.SideEffectClassNone),
		TimeoutSeconds: new(int32(webhookTimeout)), AdmissionReviewVersions: []string{"v1"},
	}}
	return o
}

// injection adds resources to pods. Not to those of the operator, nor of the system: a
// webhook that does not answer must not keep away who would repair it.
func injection(c WebhookClient, mandatory bool) admissionv1.MutatingWebhook {
	w := admissionv1.MutatingWebhook{
		Name: "network-resources-injector-config.k8s.io", ClientConfig: c.to(InjectPath),
		Rules: []admissionv1.RuleWithOperations{{
			Operations: []admissionv1.OperationType{admissionv1.Create},
			Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
		}},
		NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
			Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn, Values: []string{c.Namespace, "kube-system"},
		}}},
		FailurePolicy: new(admissionv1.Ignore), SideEffects: new(admissionv1.SideEffectClassNone), ReinvocationPolicy: new(admissionv1.IfNeededReinvocationPolicy),
		TimeoutSeconds: new(int32(webhookTimeout)), AdmissionReviewVersions: []string{"v1"},
	}
	if mandatory {
		w.FailurePolicy = new(admissionv1.Fail)
		w.MatchConditions = []admissionv1.MatchCondition{{
			Name: "include-networks-annotation",
			Expression: fmt.Sprintf("has(object.metadata.annotations) && (%q in object.metadata.annotations || %q in object.metadata.annotations)",
				v1.AnnotationNetworks, v1.AnnotationDefaultNetwork),
		}}
	}
	return w
}

func mutating(name string, owner metav1.OwnerReference, w admissionv1.MutatingWebhook) client.Object {
	return &admissionv1.MutatingWebhookConfiguration{
		TypeMeta: typeMeta("MutatingWebhookConfiguration"), ObjectMeta: objectMeta(name, owner), Webhooks: []admissionv1.MutatingWebhook{w},
	}
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: kind}
}

func objectMeta(name string, owner metav1.OwnerReference) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: map[string]string{WebhookLabel: "true"}, OwnerReferences: []metav1.OwnerReference{owner}}
}

func rules(resources ...string) []admissionv1.RuleWithOperations {
	return []admissionv1.RuleWithOperations{{
		Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
		Rule:       admissionv1.Rule{APIGroups: []string{v1.GroupVersion.Group}, APIVersions: []string{v1.GroupVersion.Version}, Resources: resources},
	}}
}
