// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

func TestModeOfNodes(t *testing.T) {
	t.Parallel()
	pool := func(mode string) *v1.SriovNetworkPoolConfig {
		p := &v1.SriovNetworkPoolConfig{}
		if mode != "absent" {
			p.Annotations = map[string]string{v1.LabelResourceMode: mode}
		}
		return p
	}
	const unknown = ""
	for _, test := range []struct{ byDefault, pools, want string }{
		{"dra", "", "dra"},
		{"device-plugin", "", "device-plugin"},
		{"dra", "absent", "dra"},
		{"dra", "device-plugin", "device-plugin"},
		{"device-plugin", "dra", "dra"},
		{"device-plugin", "dra dra", "dra"},
		{"dra", "absent dra", "dra"},
		{"device-plugin", "absent dra", unknown},
		{"dra", "device-plugin dra", unknown},
		{"dra", "DRA", unknown},
		{"dra", "device-plugin true", unknown},
	} {
		var pools []*v1.SriovNetworkPoolConfig
		for _, m := range strings.Fields(test.pools) {
			pools = append(pools, pool(m))
		}
		mode, known := NodeMode(pools, test.byDefault)
		require.Equal(t, test.want != unknown, known, "%+v", test)
		require.Equal(t, test.want, mode, "%+v", test)
	}
	_, err := PoolMode(pool(""))
	require.ErrorContains(t, err, `annotation sriovkit.io/resource-mode "": want dra or device-plugin`, "an empty value is none of the two")
}

func TestDRANames(t *testing.T) {
	t.Parallel()
	require.NoError(t, CheckDRAName("openshift.io", strings.Repeat("a", 51)))
	require.ErrorContains(t, CheckDRAName("openshift.io", strings.Repeat("a", 53)), "has 66 bytes; dynamic resource allocation allows 64: choose a name that is 2 shorter")
}
