// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each package stays on its floor: the API knows nothing but apimachinery, planning
// and rendering touch nothing, and only the node part knows the hardware.
func TestImports(t *testing.T) {
	_ = os.Getenv("SRIOVKIT_SOURCES") // go list reads what the test cache does not see
	const module = "github.com/sriovkit/sriovkit/"
	for pkg, forbidden := range map[string][]string{
		"./api/...":       {"sigs.k8s.io/controller-runtime", "k8s.io/client-go", "k8s.io/api/", module + "libsriov", module + "operator/internal"},
		"./internal/plan": {"sigs.k8s.io/controller-runtime", "k8s.io/client-go", "github.com/vishvananda/netlink", module + "libsriov"},
		"./internal/nad":  {"sigs.k8s.io/controller-runtime", "k8s.io/client-go", module + "libsriov"},
		"./...":           {module + "sriov-cni", module + "device-plugin", module + "multus-shim", module + "e2e", "github.com/spf13/cobra/doc", "github.com/sirupsen/logrus"},
	} {
		args := []string{"list", "-deps", pkg}
		if pkg == "./..." {
			args = []string{"list", "-deps", "-test", pkg} // a sibling that only tests need would have to be released, too
		}
		out, err := exec.Command("go", args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		for dep := range strings.Lines(string(out)) {
			if strings.TrimSpace(dep) == module+"libsriov/value" {
				continue // words and formats, no system call
			}
			for _, f := range forbidden {
				require.False(t, strings.HasPrefix(dep, f), "%s must not depend on %s", pkg, dep)
			}
		}
	}
}
