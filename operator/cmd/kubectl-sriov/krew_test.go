// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
	"text/template"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// The release bot renders the manifest and krew takes it: what it has to hold is in
// https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/. Its archives are those
// that the release workflow makes.
func TestKrewManifest(t *testing.T) {
	_ = os.Getenv("SRIOVKIT_SOURCES") // a file of another module, which the test cache does not see
	t.Parallel()
	text, err := os.ReadFile(".krew.yaml")
	require.NoError(t, err)
	digest := strings.Repeat("0a", 32)
	render, err := template.New("krew").Funcs(template.FuncMap{
		"indent": func(n int, s string) string { return strings.ReplaceAll(s, "\n", "\n"+strings.Repeat(" ", n)) },
		// As the bot writes it: two lines, of which the manifest indents the second.
		"addURIAndSha": func(url, tag string) (string, error) {
			out, err := template.New("url").Parse(url)
			if err != nil {
				return "", err
			}
			var at bytes.Buffer
			if err := out.Execute(&at, map[string]string{"TagName": tag}); err != nil {
				return "", err
			}
			return "uri: " + at.String() + "\nsha256: " + digest, nil
		},
	}).Parse(string(text))
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, render.Execute(&out, map[string]string{"TagName": "v1.2.3"}))

	var manifest struct {
		APIVersion string
		Kind       string
		Metadata   struct{ Name string }
		Spec       struct {
			Version, Homepage, ShortDescription, Description string
			Platforms                                        []struct {
				URI, SHA256, Bin string
				Selector         struct{ MatchLabels map[string]string }
			}
		}
	}
	require.NoError(t, yaml.UnmarshalStrict(out.Bytes(), &manifest), out.String())
	require.Equal(t, "krew.googlecontainertools.github.com/v1alpha2", manifest.APIVersion)
	require.Equal(t, "Plugin", manifest.Kind)
	require.Equal(t, "sriov", manifest.Metadata.Name)
	require.Equal(t, "v1.2.3", manifest.Spec.Version)
	require.LessOrEqual(t, len(manifest.Spec.ShortDescription), 80)
	require.NotContains(t, manifest.Spec.ShortDescription, "kubectl")
	require.NotEmpty(t, manifest.Spec.Description)
	workflow, err := os.ReadFile("../../../.github/workflows/release.yml")
	require.NoError(t, err)
	built := regexp.MustCompile(`(?m)for platform in (.*); do`).FindSubmatch(workflow)
	require.NotNil(t, built)
	var wanted []string
	for _, p := range manifest.Spec.Platforms {
		platform := p.Selector.MatchLabels["os"] + "/" + p.Selector.MatchLabels["arch"]
		wanted = append(wanted, platform)
		require.Equal(t, "kubectl-sriov", p.Bin)
		require.Equal(t, digest, p.SHA256)
		require.Equal(t, "https://github.com/sriovkit/sriovkit/releases/download/v1.2.3/kubectl-sriov-"+strings.ReplaceAll(platform, "/", "-")+".tar.gz", p.URI)
	}
	require.Equal(t, strings.Fields(string(built[1])), wanted)
}
