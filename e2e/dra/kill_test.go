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
	out := newEnv(t, controlplane.Config{}).ownTest("TestProcessKilledAnywhere", "-test.parallel=1")
	require.Contains(t, out, "--- PASS: TestProcessKilledAnywhere/unprepare")
}

// TestRefused has the driver refuse claims beside this API server: what its own test wants to
// find in their status is what this server lets it write there.
func TestRefused(t *testing.T) {
	out := newEnv(t, controlplane.Config{}).ownTest("TestRefusedClaims")
	require.Contains(t, out, "--- PASS: TestRefusedClaims")
}

// ownTest runs one of the driver's own tests beside the API server.
func (e *env) ownTest(name string, flags ...string) string {
	e.Helper()
	checkout, err := component.Checkout(e.Context())
	require.NoError(e, err)
	program := filepath.Join(e.TempDir(), "sriovdra.test")
	build := exec.CommandContext(e.Context(), "go", "test", "-c", "-o", program, "./cmd/sriovdra")
	build.Dir = filepath.Join(checkout, "device-plugin")
	out, err := build.CombinedOutput()
	require.NoError(e, err, "%s", out)
	e.kubectl("", "create", "namespace", "team")
	e.kubectl(`{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}`, "apply", "-f", "-")
	test := exec.CommandContext(e.Context(), program, append(flags, "-test.run=^"+name+"$", "-test.v")...)
	test.Env = append(os.Environ(), "SRIOVKIT_TEST_API="+e.Kubeconfig, "SRIOVKIT_TEST_API_DRIVER="+e.kubeconfig("node"))
	out, err = test.CombinedOutput()
	require.NoError(e, err, "%s", out)
	return string(out)
}
