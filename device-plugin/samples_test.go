// SPDX-License-Identifier: Apache-2.0

package deviceplugin

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/dra/vfconfig"
	"github.com/stretchr/testify/require"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// The parameters in samples of claims are those that the driver reads. What the API server
// and the scheduler make of the samples e2e/dra tries.
func TestParametersOfSamples(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("deploy/dra/samples/*.yaml")
	require.NoError(t, err)
	found := 0
	for _, path := range paths {
		f, err := os.Open(path)
		require.NoError(t, err)
		defer f.Close()
		for d := yaml.NewYAMLOrJSONDecoder(f, 4096); ; {
			var template resourceapi.ResourceClaimTemplate
			if err := d.Decode(&template); errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, path)
			for _, c := range template.Spec.Spec.Devices.Config {
				require.Equal(t, "sriovnetwork.k8snetworkplumbingwg.io", c.Opaque.Driver, path)
				got, err := vfconfig.Parse(c.Opaque.Parameters.Raw)
				require.NoError(t, err, path)
				require.Equal(t, "blue", got.NetAttachDefName, path)
				found++
			}
		}
	}
	require.GreaterOrEqual(t, found, 2)
}
