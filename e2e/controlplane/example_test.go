// SPDX-License-Identifier: Apache-2.0

package controlplane_test

import (
	"context"
	"fmt"
	"os"

	"github.com/sriovkit/sriovkit/e2e/controlplane"
)

// A test binary starts one control plane for all its tests.
func Example() {
	ctx := context.Background()
	p, err := controlplane.Start(ctx, controlplane.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	os.Setenv("KUBECONFIG", p.Kubeconfig)
	// ... create clients from p.Kubeconfig, or:
	namespaces, err := p.Kubectl(ctx, nil, "get", "namespaces", "-o", "name")
	fmt.Println(namespaces, err)
}
