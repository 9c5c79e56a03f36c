// SPDX-License-Identifier: Apache-2.0

// Package admission answers the API server's questions about objects before they are
// stored. It refuses what the planner and the renderer would refuse, warns of what does
// not fit the cluster as it is, fills in defaults, and adds the resources of networks to
// pods.
//
// It decides nothing of its own: the verdicts are those of the packages plan and nad,
// which reconcilers write to the objects later, with or without a webhook. It reads from
// caches and writes nothing.
package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

// Register serves the webhooks of an operator in namespace whose resources have prefix.
func Register(mgr ctrl.Manager, namespace, prefix string) error {
	decoder := admission.NewDecoder(mgr.GetScheme())
	for path, handler := range map[string]admission.Handler{
		deploy.ValidatePath: &validator{cluster: cluster{mgr.GetClient(), namespace}, prefix: prefix, decoder: decoder},
		deploy.MutatePath:   admission.HandlerFunc(defaults),
		deploy.InjectPath:   &injector{cached: mgr.GetClient(), live: mgr.GetAPIReader(), decoder: decoder},
	} {
		mgr.GetWebhookServer().Register(path, &admission.Webhook{Handler: handler})
	}
	// A replica that waits for the lease reads nothing else: its first answer would have
	// to wait for the caches to fill.
	for _, obj := range []client.Object{
		&v1.SriovNetworkNodePolicy{}, &v1.SriovNetworkPoolConfig{}, &v1.SriovNetworkNodeState{}, &v1.SriovOperatorConfig{},
		env.NodeMeta(), &corev1.Namespace{}, &nad.NetworkAttachmentDefinition{},
	} {
		if _, err := mgr.GetCache().GetInformer(context.Background(), obj, cache.BlockUntilSynced(false)); err != nil {
			return fmt.Errorf("watch %T for webhooks: %w", obj, err)
		}
	}
	return nil
}

// patched answers with the difference between the object of the request and this one.
func patched(req admission.Request, obj map[string]any) admission.Response {
	raw, err := json.Marshal(obj)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.PatchResponseFromRaw(req.Object.Raw, raw)
}
