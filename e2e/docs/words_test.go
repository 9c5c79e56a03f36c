// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// foreign has the words of code in pages that no source of the repository has: other
// projects' and those of examples.
var foreign = strings.Fields(`
	apiserver_admission_webhook_fail_open_count FailedPrepareDynamicResources
	CAP_SYS_RAWIO IPC_LOCK HugePages hugepage dpdk-testpmd testpmd perftest
	MachineConfig kernelArguments worker-iommu extraKernelArgs baseline
	AlreadyExists VirtualMachine runStrategy macAddress masquerade vm-net
	quay brancz kube-rbac-proxy secure-listen-address tokenreviews subjectaccessreviews
	PCIDEVICE_OPENSHIFT_IO_DPDK SriovResourcePolicy bonded roce roce-exclusive
	umadN uverbsN virtioN
	verify-blob certificate-identity certificate-oidc-issuer githubusercontent ignore-missing
	registryScopes trustPolicies signatureVerification trustStores trustedIdentities
`)

// Code in pages has no word that no source has: a key, flag, metric, variable, function or
// reason that was renamed or removed is found by its old name. Changelogs tell of the past.
func TestWordsOfCodeAreThere(t *testing.T) {
	t.Parallel()
	there, flags := sourceWords(t)
	used, count := map[string]bool{}, 0
	for _, p := range pages(t) {
		if filepath.Base(p.path) == "CHANGELOG.md" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(top, p.path))
		require.NoError(t, err)
		for _, c := range codeOf(p, string(text)) {
			if c = pattern.ReplaceAllString(c, ""); strings.HasPrefix(c, "openssl ") { // e2e/publish runs it
				continue
			}
			for w := range words(c) {
				count++
				used[w] = true
				if !there[w] && !slices.Contains(foreign, w) {
					t.Errorf("%s: %q in %q stands in no source", p.path, w, c)
				}
			}
			for _, m := range flagged.FindAllStringSubmatch(c, -1) {
				if !flags[m[1]] {
					t.Errorf("%s: no program has the flag -%s of %q", p.path, m[1], c)
				}
			}
		}
	}
	require.Greater(t, count, 2000)
	for _, w := range foreign {
		if !used[w] || there[w] {
			t.Errorf("%q need not be listed as foreign", w)
		}
	}
}

var (
	span  = regexp.MustCompile("`([^`]+)`")
	block = regexp.MustCompile("(?ms)^ *```(?:json|yaml|go)\n(.*?)^ *```")
)

// codeOf returns the code of a page: spans, and the blocks of shell, Go, JSON and YAML.
func codeOf(p page, text string) []string {
	all := commands(text)
	for _, m := range span.FindAllStringSubmatch(strings.Join(p.lines, "\n"), -1) {
		all = append(all, m[1])
	}
	for _, m := range block.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(m[1]) {
			line, _, _ = strings.Cut(line, " # ")
			all = append(all, line)
		}
	}
	return all
}

var (
	word = regexp.MustCompile(`[A-Za-z][A-Za-z0-9_]{3,}`)
	// hyphenated is also how programs spell their flags.
	hyphenated = regexp.MustCompile(`[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z][A-Za-z0-9]*)+`)
	flagged    = regexp.MustCompile(`(?:^|[\s'(])-([a-z][a-z0-9-]{2,})\b`)
	quoted     = regexp.MustCompile("[\"`]([a-z0-9][a-z0-9-]*)[=\"`]")
)

func words(text string) map[string]bool {
	all := map[string]bool{}
	for _, r := range []*regexp.Regexp{word, hyphenated} {
		for _, w := range r.FindAllString(text, -1) {
			all[w] = true
		}
	}
	return all
}

// sourceWords returns the words of all files that are no pages, and of their paths; and those
// that stand in quotes, as names of flags do.
func sourceWords(t *testing.T) (all, inQuotes map[string]bool) {
	t.Helper()
	out, err := exec.Command("git", "-C", top, "ls-files", "--cached", "--others", "--exclude-standard").Output()
	require.NoError(t, err)
	all, inQuotes = map[string]bool{}, map[string]bool{}
	for path := range strings.Lines(string(out)) {
		path = strings.TrimSpace(path)
		if strings.HasSuffix(path, ".md") || strings.HasSuffix(path, ".sum") || strings.HasPrefix(path, "e2e/docs/") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(top, path))
		if os.IsNotExist(err) {
			continue // removed, not committed yet
		}
		require.NoError(t, err)
		for w := range words(path + "\n" + string(text)) {
			all[w] = true
		}
		for _, m := range quoted.FindAllSubmatch(text, -1) {
			inQuotes[string(m[1])] = true
		}
	}
	return all, inQuotes
}
