// SPDX-License-Identifier: Apache-2.0

package multusshim

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the binary may not link, and why.
func TestDependencies(t *testing.T) {
	_ = os.Getenv("SRIOVKIT_SOURCES") // go list reads what the test cache does not see
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "./cmd/...").Output()
	require.NoError(t, err)
	for prefix, why := range map[string]string{
		"github.com/sriovkit/sriovkit/libsriov":      "networks are the delegates' business",
		"github.com/sriovkit/sriovkit/sriov-cni":     "binaries share files and specifications, not code",
		"github.com/sriovkit/sriovkit/device-plugin": "binaries share files and specifications, not code",
		"github.com/sriovkit/sriovkit/operator":      "binaries share files and specifications, not code",
		"k8s.io/client-go":                           "start-up cost of every ADD",
		"k8s.io/api":                                 "start-up cost of every ADD",
		"k8s.io/kubelet":                             "start-up cost of every ADD",
		"google.golang.org/grpc":                     "start-up cost of every ADD",
		"google.golang.org/protobuf":                 "start-up cost of every ADD",
		"os/exec":                                    "a fork more and a goroutine for every plugin",
	} {
		for pkg := range strings.Lines(string(out)) {
			pkg = strings.TrimSpace(pkg)
			if pkg == prefix || strings.HasPrefix(pkg, prefix+"/") {
				t.Errorf("links %s: %s", pkg, why)
			}
		}
	}
}

// What package oneproc imported would be initialized before it.
func TestOneProcessorFromTheStart(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-f", "{{.Imports}}", "./internal/oneproc").Output()
	require.NoError(t, err)
	require.Equal(t, "[runtime]", strings.TrimSpace(string(out)))
	out, err = exec.Command("go", "list", "-f", "{{.Imports}}", "./cmd/multus-shim").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "/internal/oneproc")
}
