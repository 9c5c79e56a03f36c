// SPDX-License-Identifier: Apache-2.0

package dra_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/controlplane"
)

// TestKilledAnywhere has the driver's own test kill it before each change that it makes on
// the node, beside this API server and with the rights of a node's driver: what the claim's
// status says of a claim that was cut short, and of its network later, is what this server
// lets that driver write.
func TestKilledAnywhere(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the tracer knows the system calls of amd64")
	}
	e := newEnv(t, controlplane.Config{})
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "sriovdra.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, "./cmd/sriovdra")
	build.Dir = filepath.Join(checkout, "device-plugin")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	e.kubectl("", "create", "namespace", "team")
	e.kubectl(`{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}`, "apply", "-f", "-")
	test := exec.CommandContext(t.Context(), program, "-test.run=^TestProcessKilledAnywhere$", "-test.v", "-test.parallel=1")
	test.Env = append(os.Environ(), "SRIOVKIT_TEST_API="+e.Kubeconfig, "SRIOVKIT_TEST_API_DRIVER="+e.kubeconfig("node"))
	out, err = test.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestProcessKilledAnywhere/unprepare")
}
