// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// config warns of fields without effect and of a selector that selects nothing.
func (v *validator) config(ctx context.Context, c *v1.SriovOperatorConfig, w *warnings) error {
	for _, field := range deploy.Ignored(&c.Spec) {
		w.add("not acted on: %s", field)
	}
	if c.Spec.DisableDrain {
		w.add("disableDrain: pods are not moved away before their VFs change under them")
	}
	nodes, err := v.nodes(ctx, &c.Spec)
	if err == nil && len(nodes) == 0 {
		w.add("configDaemonNodeSelector matches no node")
	}
	return err
}
