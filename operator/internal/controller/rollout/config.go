// SPDX-License-Identifier: Apache-2.0

// Package rollout brings about what the SriovOperatorConfig asks for: DaemonSets, webhooks
// with their certificate, and that nothing is left of an upstream installation.
package rollout

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/dra"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// reconciler deploys what the SriovOperatorConfig named default asks for.
type reconciler struct {
	*apiclient.Client
	env.Operator
	Images deploy.Images
	Live   client.Reader // not the cache

	// Of the one worker: webhook configurations that nobody left behind, and whether the rest
	// of an upstream installation is gone.
	swept   map[string]bool
	cleared bool
}

// Reconcile applies the DaemonSets and webhook configurations. Deleting the configuration
// deletes the former through their owner reference, and the latter here.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	return apiclient.OrAgain(ctrl.Result{}, r.reconcile(ctx, req))
}

func (r *reconciler) reconcile(ctx context.Context, req ctrl.Request) error {
	if req.Name != v1.DefaultConfigName || req.Namespace != r.Namespace {
		return nil
	}
	var cfg v1.SriovOperatorConfig
	err := r.Get(ctx, req.NamespacedName, &cfg)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err != nil {
		return r.webhooks(ctx, &v1.SriovOperatorConfigSpec{})
	}
	if old := cfg.DeepCopy(); controllerutil.RemoveFinalizer(&cfg, v1.FinalizerConfig) {
		if err := r.Patch(ctx, &cfg, apiclient.Locked(old), apiclient.FieldOwner); err != nil {
			return client.IgnoreNotFound(err)
		}
	}
	if !cfg.DeletionTimestamp.IsZero() {
		return r.webhooks(ctx, &v1.SriovOperatorConfigSpec{})
	}
	ready := metav1.Condition{Type: v1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1.ReasonConfigReady, ObservedGeneration: cfg.Generation}
	if cfg.Spec.ConfigurationMode == "systemd" {
		ready.Status, ready.Reason = metav1.ConditionFalse, v1.ReasonConfigUnsupported
		ready.Message = "configurationMode systemd is not supported; the daemon configures the nodes, without rebooting them. Set daemon or leave it out"
	}
	deployed, hooked := r.deploy(ctx, &cfg), r.webhooks(ctx, &cfg.Spec)
	if errors.Is(hooked, errNoCertificate) {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1.ReasonApplying, hooked.Error()
		hooked = nil
	}
	if err = errors.Join(deployed, hooked); apierrors.IsConflict(err) {
		return err // what is there is not what was read
	} else if err != nil {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1.ReasonConfigSyncFailed, err.Error()
	}
	if perr := r.PatchConditions(ctx, &cfg, &cfg.Status.Conditions, ready, r.honoured(ctx, &cfg)); perr != nil {
		return perr
	}
	return err
}

// create makes the configuration of a fresh installation, once at start: whoever
// deletes it later means it.
func (r *reconciler) create(ctx context.Context) error {
	cfg := &v1.SriovOperatorConfig{}
	cfg.Namespace, cfg.Name = r.Namespace, v1.DefaultConfigName
	cfg.Spec.ConfigDaemonNodeSelector = map[string]string{"kubernetes.io/os": "linux"}
	if err := r.Create(ctx, cfg, apiclient.FieldOwner); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the SriovOperatorConfig %s: %w", cfg.Name, err)
	}
	return nil
}

func (r *reconciler) deploy(ctx context.Context, cfg *v1.SriovOperatorConfig) error {
	o := deploy.Options{
		Namespace: r.Namespace, ResourcePrefix: r.ResourcePrefix, CNIBinDir: r.CNIBinDir, Host: r.Host, NodeSelector: deploy.NodeSelector(&cfg.Spec),
		MetricsPort: r.MetricsPort, DRA: dra.Served(cfg),
	}
	if r.Images.Daemon == "" {
		return fmt.Errorf("no image for the daemon: set SRIOV_NETWORK_CONFIG_DAEMON_IMAGE on the operator")
	}
	if err := r.clear(ctx, cfg); err != nil {
		return err
	}
	if err := r.own(ctx, cfg, deploy.Daemon(o, r.Images, &cfg.Spec)); err != nil {
		return err
	}
	if r.Images.DevicePlugin == "" {
		return nil
	}
	if err := r.own(ctx, cfg, deploy.DevicePlugin(o, r.Images, &cfg.Spec)); err != nil {
		return err
	}
	return errors.Join(
		r.ownIf(ctx, cfg, o.DRA, deploy.DRA(o, r.Images, &cfg.Spec)),
		r.ownIf(ctx, cfg, cfg.Spec.FeatureGates[deploy.GateMetrics], deploy.MetricsService(o)),
	)
}

// ownIf applies an object, or deletes the one that was applied before.
func (r *reconciler) ownIf(ctx context.Context, cfg *v1.SriovOperatorConfig, wanted bool, obj client.Object) error {
	if wanted {
		return r.own(ctx, cfg, obj)
	}
	have, err := r.find(ctx, r, obj)
	if err != nil || have == nil || !metav1.IsControlledBy(have, cfg) {
		return err
	}
	return client.IgnoreNotFound(r.Delete(ctx, have, client.PropagationPolicy(metav1.DeletePropagationBackground)))
}

// own applies an object of the operator's namespace, for garbage collection to take along
// with the configuration.
func (r *reconciler) own(ctx context.Context, cfg *v1.SriovOperatorConfig, obj client.Object) error {
	have, err := r.findAnywhere(ctx, obj)
	if err != nil {
		return err
	}
	if err := controllerutil.SetControllerReference(cfg, obj, r.Scheme()); err != nil {
		return err
	}
	return r.apply(ctx, have, obj)
}

// find reads the object that has the kind and name of like; nil if there is none.
func (r *reconciler) find(ctx context.Context, from client.Reader, like client.Object) (client.Object, error) {
	empty, err := r.Scheme().New(like.GetObjectKind().GroupVersionKind())
	if err != nil {
		return nil, err
	}
	have := empty.(client.Object)
	err = from.Get(ctx, client.ObjectKeyFromObject(like), have)
	if err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return have, nil
}

// findAnywhere is find, past the cache if that has none: what is not seen is merged with.
func (r *reconciler) findAnywhere(ctx context.Context, like client.Object) (client.Object, error) {
	have, err := r.find(ctx, r, like)
	if err != nil || have != nil {
		return have, err
	}
	return r.find(ctx, r.Live, like)
}

// apply writes an object, if it is not as it is to be. One that this operator never applied
// was made by another tool, with fields that no apply can take away or change: it is replaced.
// What others added to one that it did apply goes.
func (r *reconciler) apply(ctx context.Context, have, obj client.Object) error {
	what := obj.GetObjectKind().GroupVersionKind().Kind + " " + obj.GetName()
	content, err := appliedContent(obj)
	if err != nil {
		return err
	}
	if have != nil && !apiclient.Applied(have) {
		if err := r.Delete(ctx, have, client.PropagationPolicy(metav1.DeletePropagationBackground)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("replace %s: %w", what, err)
		}
	} else if have != nil {
		due, err := r.annex(ctx, have)
		if err != nil {
			return fmt.Errorf("take over %s: %w", what, err)
		}
		now, err := runtime.DefaultUnstructuredConverter.ToUnstructured(have)
		if err != nil {
			return err
		}
		now["apiVersion"], now["kind"] = content["apiVersion"], content["kind"] // the cache leaves them out
		if !due && covers(now, content) {
			return nil
		}
	}
	if err := r.Apply(ctx, client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: content}), apiclient.FieldOwner, client.ForceOwnership); err != nil {
		return fmt.Errorf("apply %s: %w", what, err)
	}
	return nil
}

// appliedContent is what is applied for an object. An annotation with the sum of it shows,
// when it is applied again, that nothing was in it before that is to go now.
func appliedContent(obj client.Object) (map[string]any, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, err
	}
	delete(content, "status")
	data, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	return content, unstructured.SetNestedField(content, hex.EncodeToString(sum[:16]), "metadata", "annotations", annotationSum)
}

// annotationSum of what was applied last, on objects that the operator keeps.
const annotationSum = "sriovkit.io/applied"

// covers reports whether an object has all that is to be in it, and lists no more than that.
func covers(have, want any) bool {
	switch want := want.(type) {
	case nil:
		return true
	case map[string]any:
		have, ok := have.(map[string]any)
		for key, value := range want {
			ok = ok && covers(have[key], value)
		}
		return ok
	case []any:
		have, ok := have.([]any)
		return ok && slices.EqualFunc(have, want, covers)
	}
	return have == want
}

// injectorMaps configure upstream's injector.
var injectorMaps = []string{"nri-control-switches", "user-defined-injections"}

// honoured names the fields that are set and that nothing here acts on, and what else of
// an upstream installation is there and not read.
func (r *reconciler) honoured(ctx context.Context, cfg *v1.SriovOperatorConfig) metav1.Condition {
	c := metav1.Condition{Type: v1.ConditionComplete, Status: metav1.ConditionTrue, Reason: v1.ReasonConfigReady, ObservedGeneration: cfg.Generation}
	ignored := deploy.Ignored(&cfg.Spec)
	for _, name := range injectorMaps {
		if cfg.Spec.EnableInjector && r.Live.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: name}, &corev1.ConfigMap{}) == nil {
			ignored = append(ignored, "ConfigMap "+name+": the injector of this operator does not read it")
		}
	}
	if len(ignored) > 0 {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1.ReasonConfigUnsupported, "not acted on: "+strings.Join(ignored, "; ")
	}
	return c
}
