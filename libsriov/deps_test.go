// SPDX-License-Identifier: Apache-2.0

package libsriov_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const self = "github.com/sriovkit/sriovkit/libsriov"

// What libsriov may not depend on, however indirectly, and why. Tests are not
// looked at.
var forbidden = map[string]string{
	"github.com/sriovkit/":                    "imports run downwards: libsriov knows no sibling",
	"k8s.io/":                                 "libsriov knows no Kubernetes",
	"github.com/containernetworking/":         "libsriov knows no CNI",
	"google.golang.org/grpc":                  "libsriov speaks to the kernel only",
	"github.com/k8snetworkplumbingwg/s":       "libsriov replaces sriovnet and sriov-*",
	"github.com/k8snetworkplumbingwg/rdmamap": "package rdma replaces it",
	self + "/sriovtest":                       "serves tests only",
}

// What its packages may not import themselves.
var unwanted = map[string]string{
	"log":      "libraries return errors, binaries log",
	"log/slog": "libraries return errors, binaries log",
}

func TestImports(t *testing.T) {
	t.Parallel()
	for _, pkg := range list(t, "{{.ImportPath}}", "./...") {
		if strings.HasPrefix(pkg, self+"/sriovtest") {
			continue
		}
		for _, dep := range list(t, `{{join .Deps "\n"}}`, pkg) {
			if isOwn := dep == self || strings.HasPrefix(dep, self+"/"); isOwn && dep != self+"/sriovtest" {
				continue
			}
			for prefix, why := range forbidden {
				require.False(t, strings.HasPrefix(dep, prefix), "%s depends on %s: %s", pkg, dep, why)
			}
		}
		for _, dep := range list(t, `{{join .Imports "\n"}}`, pkg) {
			require.NotContains(t, unwanted, dep, "%s imports %s", pkg, dep)
		}
	}
}

// What only computes can be trusted to touch nothing.
func TestValuesArePure(t *testing.T) {
	t.Parallel()
	for _, pkg := range []string{"/vfstate", "/value"} {
		for _, dep := range list(t, `{{join .Imports "\n"}}`, self+pkg) {
			require.NotContains(t, []string{"os", "syscall", self, "golang.org/x/sys/unix", "github.com/vishvananda/netlink"}, dep)
		}
	}
}

func list(t *testing.T, format, pattern string) []string {
	t.Helper()
	_ = os.Getenv("SRIOVKIT_SOURCES") // go list reads what the test cache does not see
	out, err := exec.Command("go", "list", "-f", format, pattern).Output()
	require.NoError(t, err)
	return strings.Fields(string(out))
}
