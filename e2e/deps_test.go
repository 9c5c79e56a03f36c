// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDependencies keeps the harness light, since the tests of other modules
// import it, and apart from what it tests.
func TestDependencies(t *testing.T) {
	_ = os.Getenv("SRIOVKIT_SOURCES") // go list reads what the test cache does not see
	t.Parallel()
	const self = "github.com/sriovkit/sriovkit/"
	for name, tc := range map[string]struct {
		packages  string
		forbidden []string
		why       string
	}{
		"binaries are run, not imported": {
			packages:  "./...",
			forbidden: []string{self + "sriov-cni", self + "device-plugin", self + "multus-shim", self + "operator/cmd", self + "operator/internal"},
			why:       "the contract with a binary is its files and specs",
		},
		"no client libraries": {
			packages:  "./...",
			forbidden: []string{"k8s.io/client-go", "k8s.io/kubernetes", "sigs.k8s.io/controller-runtime", "google.golang.org/grpc"},
			why:       "kubectl is at hand and importing the harness must stay cheap",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command("go", "list", "-deps", "-test", tc.packages).CombinedOutput()
			require.NoError(t, err, "%s", out)
			for pkg := range strings.Lines(string(out)) {
				for _, bad := range tc.forbidden {
					if strings.HasPrefix(pkg, bad) {
						t.Errorf("e2e depends on %s: %s", strings.TrimSpace(pkg), tc.why)
					}
				}
			}
		})
	}
}
