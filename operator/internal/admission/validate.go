// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// validator refuses what no cluster could make work, and warns of what this one does
// not: objects may arrive before what they refer to.
type validator struct {
	cluster
	prefix  string // of resources
	decoder admission.Decoder
}

// kinds that are judged.
var kinds = map[string]func() client.Object{
	"SriovNetworkNodePolicy": func() client.Object { return &v1.SriovNetworkNodePolicy{} },
	"SriovNetworkPoolConfig": func() client.Object { return &v1.SriovNetworkPoolConfig{} },
	"SriovOperatorConfig":    func() client.Object { return &v1.SriovOperatorConfig{} },
	"SriovNetwork":           func() client.Object { return &v1.SriovNetwork{} },
	"SriovIBNetwork":         func() client.Object { return &v1.SriovIBNetwork{} },
	"OVSNetwork":             func() client.Object { return &v1.OVSNetwork{} },
}

// Handle implements admission.Handler.
func (v *validator) Handle(ctx context.Context, req admission.Request) admission.Response {
	kind, ok := kinds[req.Kind.Kind]
	if !ok || req.Operation == admissionv1.Update && sameSpec(req.Object, req.OldObject) {
		return admission.Allowed("") // an object older than a rule can still be labelled
	}
	obj := kind()
	if err := v.decoder.Decode(req, obj); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if err := v.refuse(obj); err != nil {
		return admission.Denied(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if p, ok := obj.(*v1.SriovNetworkNodePolicy); ok && p.Namespace == v.namespace {
		if err := v.draName(ctx, p); err != nil {
			return admission.Denied(err.Error())
		}
	}
	warnings, err := v.warn(ctx, obj)
	if err != nil {
		logf.FromContext(ctx).Error(err, "admitted without a look at the cluster")
	}
	return admission.Allowed("").WithWarnings(warnings...)
}

func sameSpec(a, b runtime.RawExtension) bool {
	var was, is struct {
		Spec any `json:"spec"`
	}
	return json.Unmarshal(a.Raw, &was) == nil && json.Unmarshal(b.Raw, &is) == nil && reflect.DeepEqual(was, is)
}

// refuse says what is wrong with an object whatever else there is.
func (v *validator) refuse(obj client.Object) error {
	if source, ok := nad.SourceOf(obj); ok {
		_, _, err := source.Config(v.namespace)
		return err
	}
	switch o := obj.(type) {
	case *v1.SriovOperatorConfig:
		if o.Namespace != v.namespace || o.Name != v1.DefaultConfigName {
			return fmt.Errorf("%s/%s: the only configuration that is read is %s/%s", o.Namespace, o.Name, v.namespace, v1.DefaultConfigName)
		}
	case *v1.SriovNetworkNodePolicy:
		if o.Namespace == v.namespace && o.Name != v1.DefaultConfigName {
			return plan.Validate(&o.Spec)
		}
	case *v1.SriovNetworkPoolConfig:
		if _, err := plan.PoolSelector(o); err != nil {
			return err
		}
		_, err := plan.PoolLimit(o.Spec.MaxUnavailable, 0)
		return err
	}
	return nil
}

// warn says what keeps an object from having an effect, or gives it one that may surprise.
func (v *validator) warn(ctx context.Context, obj client.Object) ([]string, error) {
	var w warnings
	var err error
	if source, ok := nad.SourceOf(obj); ok {
		if _, left, _ := source.Config(v.namespace); left != "" {
			w.add("%s", left)
		}
		err = v.network(ctx, source, &w)
		return w.list(), err
	}
	if obj.GetNamespace() != v.namespace {
		w.add("only objects in the namespace %s are read: this one has no effect", v.namespace)
		return w.list(), nil
	}
	switch o := obj.(type) {
	case *v1.SriovNetworkNodePolicy:
		var cluster view
		if cluster, err = v.view(ctx); err == nil {
			cluster.policy(o, &w)
		}
	case *v1.SriovNetworkPoolConfig:
		err = v.pool(ctx, o, &w)
	case *v1.SriovOperatorConfig:
		err = v.config(ctx, o, &w)
	}
	return w.list(), err
}

// draName refuses a resource whose name does not fit what DRA publishes, while the gate is on.
func (v *validator) draName(ctx context.Context, p *v1.SriovNetworkNodePolicy) error {
	var cfg v1.SriovOperatorConfig
	key := client.ObjectKey{Namespace: v.namespace, Name: v1.DefaultConfigName}
	if err := v.Get(ctx, key, &cfg, client.UnsafeDisableDeepCopy); err != nil || !cfg.Spec.FeatureGates[deploy.GateDRA] {
		return nil // an unknown gate refuses nothing; the reconciler says the same later
	}
	return plan.CheckDRAName(v.prefix, p.Spec.ResourceName)
}
