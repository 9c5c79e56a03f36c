// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Each set of pins names the versions that it is called after, and a set that is not there
// is refused with those that are.
func TestPins(t *testing.T) {
	t.Setenv("GOFLAGS", "-mod=readonly")
	for _, tc := range []struct{ module, variable, version, of string }{
		{"kubernetes", KubernetesVariable, "1.37", "k8s.io/kubernetes"},
		{"kubernetes", KubernetesVariable, "1.36", "k8s.io/kubernetes"},
		{"kubernetes", KubernetesVariable, "1.35", "k8s.io/kubernetes"},
		{"kubernetes", KubernetesVariable, "1.34", "k8s.io/kubernetes"},
		{"containerd", ContainerdVariable, "1.7", "github.com/containerd/containerd"},
	} {
		t.Setenv(tc.variable, tc.version)
		p, err := pinsOf(t.Context(), tc.module, tc.variable)
		require.NoError(t, err)
		version, err := p.of(t.Context(), tc.of)
		require.NoError(t, err)
		require.Contains(t, version, "v"+tc.version+".")
	}
	t.Setenv(ContainerdVariable, "1.6")
	_, err := pinsOf(t.Context(), "containerd", ContainerdVariable)
	require.ErrorContains(t, err, `SRIOVKIT_CONTAINERD is "1.6", want one of 1.7, or nothing for the default, v2.`)
	t.Setenv(ContainerdVariable, "2")
	p, err := pinsOf(t.Context(), "containerd", ContainerdVariable)
	require.NoError(t, err)
	require.Empty(t, p.version, "the default by its name")
}
