// SPDX-License-Identifier: Apache-2.0

package deviceplugin

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What packages may not link, and why.
func TestDependencies(t *testing.T) {
	_ = os.Getenv("SRIOVKIT_SOURCES") // go list reads what the test cache does not see
	t.Parallel()
	const self = "github.com/sriovkit/sriovkit/"
	shared := "binaries share files and specifications, not code"
	for name, tc := range map[string]struct {
		packages  []string
		forbidden map[string]string
	}{
		"sriovdp": {[]string{"./cmd/sriovdp"}, map[string]string{
			self + "sriov-cni": shared, self + "multus-shim": shared, self + "operator": shared, self + "e2e": shared,
			self + "libsriov/sriovtest":                 "for tests",
			self + "device-plugin/internal/kubelettest": "for tests",
			self + "device-plugin/internal/testhost":    "for tests",
			"github.com/stretchr/testify":               "for tests",
			"k8s.io/client-go":                          "15 MB on every node for nothing: the plugin asks kubelet only",
			"k8s.io/api":                                "the plugin asks kubelet only",
			self + "device-plugin/dra/driver":           "of the driver it reads the records only",
			self + "device-plugin/dra/prepare":          "of the driver it reads the records only",
			self + "device-plugin/dra/offer":            "of the driver it reads the records only",
		}},
		"sriovdra": {[]string{"./cmd/sriovdra"}, map[string]string{
			self + "sriov-cni": shared, self + "multus-shim": shared, self + "operator": shared, self + "e2e": shared,
			self + "device-plugin/plugin":               "kubelet's device manager is sriovdp's",
			self + "libsriov/sriovtest":                 "for tests",
			self + "device-plugin/internal/kubelettest": "for tests",
			self + "device-plugin/internal/testhost":    "for tests",
			"github.com/stretchr/testify":               "for tests",
		}},
		"decisions": {[]string{"./config", "./pool"}, map[string]string{
			"google.golang.org/grpc": "what goes into a pool does not depend on who asks",
			"k8s.io/kubelet":         "what goes into a pool does not depend on who asks",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command("go", append([]string{"list", "-deps"}, tc.packages...)...).Output()
			require.NoError(t, err)
			for pkg := range strings.Lines(string(out)) {
				pkg = strings.TrimSpace(pkg)
				for prefix, why := range tc.forbidden {
					if pkg == prefix || strings.HasPrefix(pkg, prefix+"/") {
						t.Errorf("links %s: %s", pkg, why)
					}
				}
			}
		})
	}
}
