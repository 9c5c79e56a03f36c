// SPDX-License-Identifier: Apache-2.0

package support

import (
	"encoding/json"
	"strings"
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

// Whatever somebody may have put a secret into, it is not in what is given away, and what
// says where a secret is stays.
func TestScrubLeavesNoSecret(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]any{
		"number":                   map[string]any{"password": float64(4711)},
		"list":                     map[string]any{"tokens": []any{"4711"}},
		"mapping":                  map[string]any{"credentials": map[string]any{"user": "me", "word": "4711"}},
		"short names":              map[string]any{"DB_PASS": "4711", "MYSQL_PWD": "4711", "wifi.psk": "4711", "AWS_ACCESS_KEY_ID": "4711"},
		"variable":                 map[string]any{"name": "REGISTRY_PASS", "value": "4711"},
		"option and its value":     []any{"--registry-token", "4711", "--v=2"},
		"option in a shell's line": []any{"sh", "-c", "run --db-password 4711 --v=2"},
		"JSON after a line feed":   "\n {\"ipam\":{\"apiKey\":4711}}",
		"JSON in JSON":             `{"config":"{\"args\":{\"secret\":\"4711\"}}"}`,
		"JSON with a fault":        `{"password": "47 11", "a": 1,}`,
		"escaped JSON with one":    `{"config": "{\"password\": \"4711 and more\",}",}`,
		"quoted with blanks":       `password = "a 4711"`,
		"YAML":                     "user: me\npassword: 4711\n",
		"URL":                      "https://me:x4711/y@host/path",
		"URL, no user":             "https://4711@host/path",
		"query":                    "https://host/?access_token=4711&a=b",
		"PGP":                      "-----BEGIN PGP PRIVATE KEY BLOCK-----\n4711\n-----END PGP PRIVATE KEY BLOCK-----",
		"key in one line":          `-----BEGIN RSA PRIVATE KEY-----\n4711\n-----END RSA PRIVATE KEY-----`,
		"cookie":                   map[string]any{"headers": map[string]any{"Cookie": "s=4711"}},
		"no reference":             map[string]any{"secretRef": "4711"},
		"beside a reference":       map[string]any{"secretRef": map[string]any{"name": "a", "password": "4711"}},
		"names in camel case":      map[string]any{"dbPass": "4711", "userPwd": "4711", "wifiPSK": "4711", "pskWifi": "4711"},
		"login of a registry":      `{"auths":{"registry.example":{"auth":"NDcxMQ4711"}}}`,
		"shared key":               map[string]any{"PresharedKey": "4711", "account_key": "4711"},
		"key of a kubeconfig":      "users:\n- user:\n    client-key-data: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVk4711=\n",
		"short name in a line":     []any{"sh", "-c", "export DB_PASS=4711; run"},
		"short option":             []any{"--db-pass", "4711"},
		"short option in a line":   "run --db-pass 4711 now",
		"short name in a log":      `level=info MYSQL_PWD="a 4711" dbPass=4711`,
		"cookie in a log":          "GET / Cookie: s=4711",
		"key without its begin":    "4711\n-----END RSA PRIVATE KEY-----\nsound",
		"connection":               "Endpoint=a;AccountKey=x4711==;b",
		"a well-known form":        "pushed with ghp_4711471147114711aaaa",
		"login in a line":          `pull: {"auths":{"a":{"auth":"NDcxMQ4711"}}}`,
		"login in base64":          map[string]any{"name": "DOCKER_CONFIG", "value": "eyJhdXRocyI6eyJhIjp7fX19aaaaaa4711"},
		"scheme of its own":        "Authorization: 4711",
		"URL, no name":             "redis://:x4711@host:6379/0",
		"URL with an at sign":      "https://me:a@4711@host/",
		"block of YAML":            "a: 1\npassword: |\n  4711\n  4711\nb: redis\n",
		"flow of YAML":             "passwords: [a, 4711]",
		"part of JSON":             `"type": "x", "credentials": {"word": "4711"}`,
		"list in a log":            `{"X-Token":["4711"]}`,
		"assignment of Go":         "token := 4711",
		"option and a blank":       "run --password = 4711",
		"value with a comma":       "password=a,4711&4711}4711",
		"pair":                     []any{map[string]any{"key": "password", "value": "4711"}},
		"key of SSH":               map[string]any{"sshKey": "4711", "tls.key": "4711"},
		"annotation of a template": map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{"a/b": "4711"}, "name": "REDACTED"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := json.Marshal(scrub(value))
			require.NoError(t, err)
			require.NotRegexp(t, `47\s?11`, string(out))
			require.Contains(t, string(out), redacted)
		})
	}
	where := map[string]any{
		"imagePullSecrets": []any{map[string]any{"name": "registry"}}, "automountServiceAccountToken": false,
		"env":     []any{map[string]any{"name": "DB_PASSWORD", "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": "db", "key": "a"}}}},
		"message": "token of the pod expired", "pfName": "ens1f0#0-1", "bypass": "on", "compass": "n", "auth": map[string]any{"user": "me"}, "url": "https://host:443/a@b",
	}
	text, err := json.Marshal(where)
	require.NoError(t, err)
	got, err := json.Marshal(scrub(where))
	require.NoError(t, err)
	require.JSONEq(t, string(text), string(got))
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

// Of megabytes of a log the lines that have nothing to hide cost nothing, and what goes on after
// one that has is seen.
func TestScrubLog(t *testing.T) {
	t.Parallel()
	line := `{"level":"INFO","msg":"VF set","pf":"ens1f0","vf":3,"pci":"0000:3b:01.0","policy":"nics"}` + "\n"
	many := strings.Repeat(line, 50_000)
	require.Equal(t, many+"password: REDACTED\n"+many, scrubLog(many+"password: |\n  hunter2\n  hunter2\n"+many))
	pem := "-----BEGIN PRIVATE KEY-----\n" + strings.Repeat("aHVudGVyMg\n", 50) + "-----END PRIVATE KEY-----\n"
	require.Equal(t, line+"REDACTED\n"+line, scrubLog(line+pem+line))
	rest := strings.Repeat("aHVudGVyMmh1bnRlcjI\n", 50) + "-----END PRIVATE KEY-----\n"
	require.NotContains(t, scrubLog(line+rest+line), "aHVudGVy", "the end of a log may begin within a key")
	require.NotContains(t, scrubLog(rest+line), "aHVudGVy")
	require.Equal(t, "password:\n\n  REDACTED", scrubLog("password:\n\n  hunter2"))
}
