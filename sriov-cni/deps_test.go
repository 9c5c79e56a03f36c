// SPDX-License-Identifier: Apache-2.0

package sriovcni_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const house = "github.com/sriovkit/sriovkit/"

// What the plugin may not depend on, however indirectly, and why. Tests are not
// looked at.
var forbidden = map[string]string{
	house + "device-plugin":       "binaries share files and specifications, not code",
	house + "multus-shim":         "binaries share files and specifications, not code",
	house + "operator":            "binaries share files and specifications, not code",
	house + "e2e":                 "imports run downwards",
	house + "libsriov/sriovtest":  "serves tests only",
	"k8s.io/":                     "the plugin knows no Kubernetes",
	"google.golang.org/grpc":      "the plugin speaks to the kernel only",
	"github.com/k8snetworkplumbi": "the plugin replaces these",
}

// The plugin's packages from the bottom up: each imports only those before it.
var floors = []string{"cnierr", "internal/file", "internal/delegate", "request", "state", "vf", "attach", "repair", "plugin"}

func TestImportsRunDownwards(t *testing.T) {
	_ = os.Getenv("SRIOVKIT_SOURCES") // go list reads what the test cache does not see
	t.Parallel()
	for i, floor := range floors {
		out, err := exec.Command("go", "list", "-deps", "./"+floor).Output()
		require.NoError(t, err)
		for _, above := range floors[i+1:] {
			require.NotContains(t, strings.Fields(string(out)), house+"sriov-cni/"+above, "%s knows of %s", floor, above)
		}
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "./...").Output()
	require.NoError(t, err)
	for _, dep := range strings.Fields(string(out)) {
		for prefix, why := range forbidden {
			require.False(t, strings.HasPrefix(dep, prefix), "depends on %s: %s", dep, why)
		}
	}
}
