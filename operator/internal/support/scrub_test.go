// SPDX-License-Identifier: Apache-2.0

package support

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScrub(t *testing.T) {
	t.Parallel()
	got := scrub(map[string]any{
		"spec": map[string]any{
			"ipam":   `{"type":"x","etcdPassword":"hunter2","range":"10.0.0.0/24"}`,
			"config": "{\"plugins\":[{\"type\":\"sriov\",\"auth\":{\"apiKey\":\"hunter2\"}}]}",
			"env": []any{
				map[string]any{"name": "DB_PASSWORD", "value": "hunter2"},
				map[string]any{"name": "HTTPS_PROXY", "value": "http://me:hunter2@proxy:3128/"},
				map[string]any{"name": "LEVEL", "value": "debug"},
			},
			"args": []any{"--token=hunter2", "--v=2"},
		},
	})
	require.Equal(t, map[string]any{"spec": map[string]any{
		"ipam":   `{"etcdPassword":"REDACTED","range":"10.0.0.0/24","type":"x"}`,
		"config": `{"plugins":[{"auth":{"apiKey":"REDACTED"},"type":"sriov"}]}`,
		"env": []any{
			map[string]any{"name": "DB_PASSWORD", "value": "REDACTED"},
			map[string]any{"name": "HTTPS_PROXY", "value": "http://me:REDACTED@proxy:3128/"},
			map[string]any{"name": "LEVEL", "value": "debug"},
		},
		"args": []any{"--token=REDACTED", "--v=2"},
	}}, got)
}

func TestScrubText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Authorization: Bearer abc.def-1":                                             "Authorization: Bearer REDACTED",
		"jwt eyJhbGciOi.eyJzdWIiOi.sig_-x end":                                        "jwt REDACTED end",
		"a\n-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----\nb": "a\nREDACTED\nb",
		"-----BEGIN PRIVATE KEY-----\nhunter2":                                        "REDACTED",
		`{"password":"hunter2","vf":1}`:                                               `{"password":"REDACTED","vf":1}`,
		"pf eth0 vf 1 0000:01:10.0":                                                   "pf eth0 vf 1 0000:01:10.0",
	} {
		require.Equal(t, want, scrubText(in))
	}
}
