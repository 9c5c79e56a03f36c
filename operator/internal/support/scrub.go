// SPDX-License-Identifier: Apache-2.0

// Package support makes a bundle of what somebody needs who is asked for help: objects,
// events and logs of sriovkit in a cluster, without secrets.
package support

import (
	"encoding/json"
	"regexp"
	"strings"
)

// redacted replaces what is left out.
const redacted = "REDACTED"

var (
	// secretName is a field, variable or option whose value is left out, whatever it is.
	secretName = regexp.MustCompile(`(?i)passw|passphrase|passcode|(^|[_.-])(pass|pwd|psk)($|[_.-]|(?-i:[A-Z]))|(?-i:[a-z0-9](Pass|Pwd|Psk|PSK)($|[A-Z_.-]))` +
		`|secret|token|credential|` + keyWord + `|authorization|cookie|signature`)
	// secretString is one if its value is a string, such as the logins of registries.
	secretString = regexp.MustCompile(`(?i)(^|[_.-])auth$`)
	// references are fields with such a name that say where a secret is, not what it is.
	references = map[string]bool{
		"imagePullSecrets": true, "secretKeyRef": true, "secretRef": true, "serviceAccountToken": true, "automountServiceAccountToken": true,
	}
	// secretOption is one on a command line, with its value as the next word.
	secretOption = regexp.MustCompile(`(?i)^--?(?:[\w.-]*` + secretWord + `[\w.-]*|(?:[\w.-]*[_.-])?(?:pass|pwd|psk))$`)
	// secretText is left out of any text: private keys, bearer tokens, JSON web tokens,
	// passwords in URLs, in assignments and as options.
	secretText = []struct {
		pattern *regexp.Regexp
		with    string
	}{
		{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY[A-Z ]*-----.*?(-----END [A-Z ]*PRIVATE KEY[A-Z ]*-----|$)`), redacted},
		// The end of one, where a log begins, and one within base64, as kubeconfigs have them.
		{regexp.MustCompile(`(?:[A-Za-z0-9+/=]+(?:\\n|\s)+)*-----END [A-Z ]*PRIVATE KEY[A-Z ]*-----`), redacted},
		{regexp.MustCompile(`\bLS0tLS1CRUdJTi[-\w+/=]+`), redacted},
		{regexp.MustCompile(`(?i)\b(cookie["']?\s*[:=]\s*["']?)[^\n"']+`), "${1}" + redacted},
		{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[-\w.~+/]+=*`), "$1 " + redacted},
		{regexp.MustCompile(`\beyJ[-\w]+\.[-\w]+\.[-\w]*`), redacted},
		{regexp.MustCompile(`\b(gh[pousr]_\w{16,}|github_pat_\w{16,}|A[KS]IA[A-Z0-9]{16}|xox[abp]-[-\w]{10,})`), redacted},
		// Digits and a slash are a port and a path, not a password.
		{regexp.MustCompile(`(\w+://[^\s/:@"']+:)(?:[^\s"'/@]*[^\s"'/@0-9][^\s"'@]*|[^\s"'/@]+)@`), "${1}" + redacted + "@"},
		{regexp.MustCompile(`(\w+://)[^\s/:@"']+@`), "${1}" + redacted + "@"},
		{regexp.MustCompile(assigned + `"(?:[^"\\]|\\.)*"`), `${1}"` + redacted + `"`},
		{regexp.MustCompile(assigned + `\\"(?:[^"\\]|\\[^"])*\\"`), `${1}\"` + redacted + `\"`},
		{regexp.MustCompile(assigned + `'[^']*'`), "${1}'" + redacted + "'"},
		{regexp.MustCompile(assigned + `[^\s"',}&\\][^\s"',}&]*`), "${1}" + redacted},
	}
)

// assigned is what stands before the value of a field, a variable or an option.
const assigned = `(?i)((?:[\w.-]*` + secretWord + `[\w.-]*\\?["']?\s*[=:]|--?[\w.-]*` + secretWord + `[\w.-]*\s|` +
	`(?:(?:^|[^A-Za-z0-9])(?:pass|pwd|psk)|(?-i:[a-z0-9](?:Pass|Pwd|Psk|PSK)))\\?["']?\s*[=:]|--?(?:[\w.-]*[_.-])?(?:pass|pwd|psk)\s)\s*)`

const (
	secretWord = `(?:passw|passphrase|secret|token|credential|` + keyWord + `|signature)`
	keyWord    = `(?:private|access|api|signing|encryption|shared|account|master|client|storage).?key`
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
			case references[key] && !text:
				v[key] = scrub(inner)
			case inner != nil && (secretName.MatchString(key) || key == "value" && secretName.MatchString(named)), text && secretString.MatchString(key):
				v[key] = redacted
			default:
				v[key] = scrub(inner)
			}
		}
	case []any:
		for i := range v {
			option, _ := v[max(i-1, 0)].(string)
			if i > 0 && secretOption.MatchString(option) {
				v[i] = redacted
				continue
			}
			v[i] = scrub(v[i])
		}
	case string:
		text := strings.TrimSpace(v)
		if len(text) < 2 || text[0] != '{' && text[0] != '[' {
			return scrubText(v)
		}
		var inner any
		if err := json.Unmarshal([]byte(text), &inner); err != nil && secretName.MatchString(text) {
			return redacted + ": not JSON, and it names a secret: " + err.Error()
		} else if err != nil {
			return scrubText(v)
		}
		if out, err := json.Marshal(scrub(inner)); err == nil {
			return string(out)
		}
		return redacted
	}
	return value
}
