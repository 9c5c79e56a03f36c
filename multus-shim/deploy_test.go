// SPDX-License-Identifier: Apache-2.0

package multusshim

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// The readiness probe starts a process, which takes more than the default of a second on
// a busy node, and a rollout waits for it.
func TestReadinessProbeAllowsForABusyNode(t *testing.T) {
	t.Parallel()
	manifest, err := os.ReadFile("deploy/workload/daemonset.yaml")
	require.NoError(t, err)
	var daemonSet struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						ReadinessProbe struct {
							Exec           struct{ Command []string }
							TimeoutSeconds int
						}
					}
				}
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(manifest, &daemonSet))
	require.Len(t, daemonSet.Spec.Template.Spec.Containers, 1)
	probe := daemonSet.Spec.Template.Spec.Containers[0].ReadinessProbe
	assert.Equal(t, []string{"/multus-shim", "install", "-check"}, probe.Exec.Command)
	assert.GreaterOrEqual(t, probe.TimeoutSeconds, 10)
}
