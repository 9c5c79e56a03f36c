// SPDX-License-Identifier: Apache-2.0

package sriovcni_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/sriov-cni/request"
)

// Configurations in the README are good ones, with no key that nobody reads.
func TestExamples(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	found := regexp.MustCompile("(?ms)^```json\n(.*?)^```").FindAllSubmatch(text, -1)
	require.NotEmpty(t, found)
	for _, example := range found {
		conf := strings.Replace(string(example[1]), "{", `{"deviceID": "0000:3b:02.1", `, 1)
		r, err := request.Parse([]byte(conf), "")
		require.NoError(t, err, conf)
		require.Empty(t, r.Unknown, conf)
	}
}
