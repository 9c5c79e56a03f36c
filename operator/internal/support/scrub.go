// SPDX-License-Identifier: Apache-2.0

// Package support makes a bundle of what somebody needs who is asked for help: objects,
// events and logs of sriovkit in a cluster, without secrets.
package support

import (
	"encoding/json"
	"regexp"
)

// redacted stands where something was that is nobody's business.
const redacted = "REDACTED"

var (
	// secretName is a field or variable whose value is left out, whatever it is.
	secretName = regexp.MustCompile(`(?i)passw|passphrase|secret|token|credential|private.?key|api.?key|authorization|\bpsk\b`)
	// secretText is left out of any text: private keys, bearer tokens, JSON web tokens,
	// passwords in URLs and in assignments.
	secretText = []struct {
		pattern *regexp.Regexp
		with    string
	}{
		{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`), redacted},
		{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[-\w.~+/]+=*`), "$1 " + redacted},
		{regexp.MustCompile(`\beyJ[-\w]+\.[-\w]+\.[-\w]*`), redacted},
		{regexp.MustCompile(`(\w+://[^\s/:@]+:)[^\s/@]+@`), "${1}" + redacted + "@"},
		{regexp.MustCompile(`(?i)((?:passw\w*|passphrase|secret|token|api.?key)["']?\s*[=:]\s*["']?)[^\s"',}]+`), "${1}" + redacted},
	}
)

// scrubText takes secrets out of a text such as a log.
func scrubText(s string) string {
	for _, t := range secretText {
		s = t.pattern.ReplaceAllString(s, t.with)
	}
	return s
}

// scrub takes secrets out of a decoded JSON value, also out of JSON inside of strings, which
// is how networks carry their configuration.
func scrub(value any) any {
	switch v := value.(type) {
	case map[string]any:
		named, _ := v["name"].(string)
		for key, inner := range v {
			_, text := inner.(string)
			switch {
			case text && (secretName.MatchString(key) || key == "value" && secretName.MatchString(named)):
				v[key] = redacted
			default:
				v[key] = scrub(inner)
			}
		}
	case []any:
		for i := range v {
			v[i] = scrub(v[i])
		}
	case string:
		var inner any
		if len(v) > 1 && (v[0] == '{' || v[0] == '[') && json.Unmarshal([]byte(v), &inner) == nil {
			if out, err := json.Marshal(scrub(inner)); err == nil {
				return string(out)
			}
		}
		return scrubText(v)
	}
	return value
}
