// SPDX-License-Identifier: Apache-2.0

// Package support makes a bundle of what somebody needs who is asked for help: objects,
// events and logs of sriovkit in a cluster, without secrets.
package support

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
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
		{regexp.MustCompile(`(?i)\b(authorization["']?\s*[:=]\s*["']?(?:(?:bearer|basic)\s)?)[^\n"']+`), "${1}" + redacted},
		{regexp.MustCompile(`\beyJ[-\w]+\.[-\w]+\.[-\w]*`), redacted},
		{regexp.MustCompile(`\beyJ[-\w+/=]{20,}`), redacted},                                 // JSON in base64, such as logins of registries
		{regexp.MustCompile(`(?i)(\bauth\\?["']\s*:\s*\\?["'])[^\\"']+`), "${1}" + redacted}, // of one, in a line
		{regexp.MustCompile(`\b(gh[pousr]_\w{16,}|github_pat_\w{16,}|A[KS]IA[A-Z0-9]{16}|xox[abp]-[-\w]{10,}|glpat-[-\w]{16,}|hv[sb]\.[-\w]{16,})`), redacted},
		// Digits and a slash are a port and a path, not a password.
		{regexp.MustCompile(`(\w+://[^\s/:@"']*:)(?:[^\s"'/@]*[^\s"'/@0-9][^\s"'@]*|[^\s"'/@]+)@`), "${1}" + redacted + "@"},
		{regexp.MustCompile(`(\w+://)[^\s/:@"']+@`), "${1}" + redacted + "@"},
		{regexp.MustCompile(redacted + `@[^\s"'/@]+@`), redacted + "@"},                                            // the rest of one with an at sign
		{regexp.MustCompile(assigned + `[|>][-+0-9]*[ \t]*\n(?:[ \t]+[^\n]*(?:\n|$))+`), "${1}" + redacted + "\n"}, // a block of YAML
		{regexp.MustCompile(assigned + `(?:\[[^\]\n]*\]|\{[^}\n]*\})`), "${1}" + redacted},
		{regexp.MustCompile(assigned + `"(?:[^"\\]|\\.)*"`), `${1}"` + redacted + `"`},
		{regexp.MustCompile(assigned + `\\"(?:[^"\\]|\\[^"])*\\"`), `${1}\"` + redacted + `\"`},
		{regexp.MustCompile(assigned + `'[^']*'`), "${1}'" + redacted + "'"},
		{regexp.MustCompile(assigned + `[^\s"',}&\\][^\s"']*`), "${1}" + redacted},
	}
)

// assigned is what stands before the value of a field, a variable or an option.
const assigned = `(?i)((?:` + secretWord + `[\w.-]*\\?["']?\s*[=:][=>]?|--?[\w.-]*` + secretWord + `[\w.-]*(?:\s*[=:][=>]?|\s)|` +
	`(?:(?:^|[^A-Za-z0-9])(?:pass|pwd|psk)|(?-i:[a-z0-9](?:Pass|Pwd|Psk|PSK)))\\?["']?\s*[=:][=>]?|--?(?:[\w.-]*[_.-])?(?:pass|pwd|psk)\s)\s*)`

const (
	secretWord = `(?:passw|passphrase|secret|token|credential|` + keyWord + `|signature)`
	keyWord    = `(?:private|access|api|ssh|tls|wep|signing|encryption|shared|account|master|client|storage).?key`
)

// keyLine is one of a key in PEM, of which a log may have no more than the end.
var keyLine = regexp.MustCompile(`^[\w+/=]{16,}\s*$`)

// suspects are in every line that something of secretText is about, but for keys in PEM.
var suspects = []string{
	"pass", "pwd", "psk", "secret", "token", "credential", "key", "signature", "cookie", "bearer", "basic", "auth", "eyj", "ls0tls1",
	"gh", "github_pat_", "akia", "asia", "xox", "glpat-", "hvs.", "hvb.", "://", "-----",
}

func suspect(line string) bool {
	line = strings.ToLower(line)
	return keyLine.MatchString(line) || slices.ContainsFunc(suspects, func(s string) bool { return strings.Contains(line, s) })
}

// scrubLog takes secrets out of a text that may be long: only lines that may have one, and those
// after them, which may go on with it, are looked at closely, which takes microseconds a byte.
func scrubLog(s string) string {
	var out strings.Builder
	lines := strings.SplitAfter(s, "\n")
	for i := 0; i < len(lines); {
		end := i + 1
		if !suspect(lines[i]) {
			out.WriteString(lines[i])
			i = end
			continue
		}
		for last := i; end < len(lines); end++ {
			if suspect(lines[end]) {
				last = end
			} else if end-last > 4 && !inBlock(lines[end]) {
				break
			}
		}
		out.WriteString(scrubText(strings.Join(lines[i:end], "")))
		i = end
	}
	return out.String()
}

// inBlock: indented, as YAML's blocks are, or one word, as keys in PEM are.
func inBlock(line string) bool {
	return strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") || !strings.ContainsAny(strings.TrimSpace(line), " \t")
}

// scrubText takes secrets out of a text.
func scrubText(s string) string {
	if !suspect(s) {
		return s
	}
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
		if named == "" {
			named, _ = v["key"].(string)
		}
		if a, ok := v["annotations"].(map[string]any); ok { // also of what a workload makes
			maps.DeleteFunc(a, func(key string, _ any) bool { return !ourAnnotation(key) })
		}
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
