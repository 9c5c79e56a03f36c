package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// Config deploys what the SriovOperatorConfig named default asks for.
type Config struct {
	client.Client
	Operator
	Images deploy.Images
}

// Reconcile applies the DaemonSets. Deleting the configuration deletes them through
// their owner reference.
func (r *Config) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if req.Name != v1.DefaultConfigName || req.Namespace != r.Namespace {
		return ctrl.Result{}, nil
	}
	var cfg v1.SriovOperatorConfig
	if err := r.Get(ctx, req.NamespacedName, &cfg); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if old := cfg.DeepCopy(); controllerutil.RemoveFinalizer(&cfg, v1.FinalizerConfig) {
		if err := r.Patch(ctx, &cfg, client.MergeFrom(old), FieldOwner); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
	}
	if !cfg.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	ready := metav1.Condition{Type: v1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1.ReasonConfigReady, ObservedGeneration: cfg.Generation}
	var err error
	if cfg.Spec.ConfigurationMode == "systemd" {
		ready.Status, ready.Reason = metav1.ConditionFalse, v1.ReasonConfigUnsupported
		ready.Message = "configurationMode systemd is not supported; the daemon configures the nodes, without rebooting them. Set daemon or leave it out"
	}
	if err = r.deploy(ctx, &cfg); err != nil {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1.ReasonConfigSyncFailed, err.Error()
	}
	if perr := patchCondition(ctx, r, &cfg, &cfg.Status.Conditions, ready, honoured(&cfg)); perr != nil {
		return ctrl.Result{}, perr
	}
	return ctrl.Result{}, err
}

// create makes the configuration of a fresh installation, once at start: whoever
// deletes it later means it.
func (r *Config) create(ctx context.Context) error {
	cfg := &v1.SriovOperatorConfig{}
	cfg.Namespace, cfg.Name = r.Namespace, v1.DefaultConfigName
	cfg.Spec.ConfigDaemonNodeSelector = map[string]string{"kubernetes.io/os": "linux"}
	if err := r.Create(ctx, cfg, FieldOwner); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the SriovOperatorConfig %s: %w", cfg.Name, err)
	}
	return nil
}

func (r *Config) deploy(ctx context.Context, cfg *v1.SriovOperatorConfig) error {
	o := deploy.Options{Namespace: r.Namespace, ResourcePrefix: r.ResourcePrefix, CNIBinDir: r.CNIBinDir, NodeSelector: deploy.NodeSelector(&cfg.Spec)}
	if r.Images.Daemon == "" {
		return fmt.Errorf("no image for the daemon: set SRIOV_NETWORK_CONFIG_DAEMON_IMAGE on the operator")
	}
	if err := r.apply(ctx, cfg, deploy.Daemon(o, r.Images, &cfg.Spec)); err != nil {
		return err
	}
	if r.Images.DevicePlugin == "" {
		return nil
	}
	return r.apply(ctx, cfg, deploy.DevicePlugin(o, r.Images, &cfg.Spec))
}

// apply writes a DaemonSet. One that this operator never applied was made by another
// tool, with fields and a selector that no apply can take away: it is replaced.
func (r *Config) apply(ctx context.Context, cfg *v1.SriovOperatorConfig, ds *appsv1.DaemonSet) error {
	var have appsv1.DaemonSet
	err := r.Get(ctx, client.ObjectKeyFromObject(ds), &have)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	ours := slices.ContainsFunc(have.ManagedFields, func(m metav1.ManagedFieldsEntry) bool {
		return m.Manager == string(FieldOwner) && m.Operation == metav1.ManagedFieldsOperationApply
	})
	if err == nil && !ours {
		if err := r.Delete(ctx, &have, client.PropagationPolicy(metav1.DeletePropagationBackground)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("replace DaemonSet %s: %w", ds.Name, err)
		}
	}
	if err := controllerutil.SetControllerReference(cfg, ds, r.Scheme()); err != nil {
		return err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(ds)
	if err != nil {
		return err
	}
	delete(content, "status")
	if err := r.Apply(ctx, client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: content}), FieldOwner, client.ForceOwnership); err != nil {
		return fmt.Errorf("apply DaemonSet %s: %w", ds.Name, err)
	}
	return nil
}

// honoured names the fields that are set and that nothing here acts on.
func honoured(cfg *v1.SriovOperatorConfig) metav1.Condition {
	c := metav1.Condition{Type: v1.ConditionComplete, Status: metav1.ConditionTrue, Reason: v1.ReasonConfigReady, ObservedGeneration: cfg.Generation}
	if ignored := deploy.Ignored(&cfg.Spec); len(ignored) > 0 {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1.ReasonConfigUnsupported, "not acted on: "+strings.Join(ignored, "; ")
	}
	return c
}
