// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"
)

// Namespace is that of the operator and of its objects.
const Namespace = "sriov-network-operator"

// readyTimeout is many times what a component takes on a busy emulated node.
const readyTimeout = 5 * time.Minute

// Kubectl runs kubectl as an administrator, see controlplane.ControlPlane.
type Kubectl func(ctx context.Context, input io.Reader, args ...string) (string, error)

// InstallMultus applies the manifests of multus-shim and waits until its
// installer runs on every node. The runtimes notice the new configuration a
// moment later.
func InstallMultus(ctx context.Context, kubectl Kubectl, checkout string) error {
	if err := run(ctx, kubectl,
		"apply -k "+filepath.Join(checkout, "multus-shim/deploy"),
		"wait crd/network-attachment-definitions.k8s.cni.cncf.io --for=condition=Established --timeout=60s",
		"-n kube-system rollout status daemonset/multus-shim --timeout="+readyTimeout.String(),
	); err != nil {
		return fmt.Errorf("install multus-shim: %w", err)
	}
	return nil
}

// InstallOperator applies the manifests of the operator and waits until it has
// the daemon, the CNI plugin and the device plugin on every node.
func InstallOperator(ctx context.Context, kubectl Kubectl, checkout string) error {
	each, in := " --timeout="+readyTimeout.String(), "-n "+Namespace+" "
	if err := run(ctx, kubectl,
		"apply -k "+filepath.Join(checkout, "operator/config"),
		in+"rollout status deployment/sriov-network-operator"+each,
		// kubectl waits for the creation of one object only.
		in+"wait daemonset/sriov-network-config-daemon --for=create"+each,
		in+"wait daemonset/sriov-device-plugin --for=create"+each,
		in+"rollout status daemonset/sriov-network-config-daemon"+each,
		in+"rollout status daemonset/sriov-device-plugin"+each,
		in+"wait sriovnetworknodestates --all --for=jsonpath={.status.syncStatus}=Succeeded"+each,
	); err != nil {
		return fmt.Errorf("install the operator: %w", err)
	}
	return nil
}

// run runs commands whose words contain no space.
func run(ctx context.Context, kubectl Kubectl, commands ...string) error {
	for _, c := range commands {
		if _, err := kubectl(ctx, nil, strings.Fields(c)...); err != nil {
			return err
		}
	}
	return nil
}
