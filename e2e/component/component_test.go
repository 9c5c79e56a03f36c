// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
)

// TestDockerfiles holds each module's Dockerfile against the table: people who
// build with one must get the same image.
func TestDockerfiles(t *testing.T) {
	t.Parallel()
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	for _, c := range component.All {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join(checkout, c.Name, "Dockerfile"))
			require.NoError(t, err)
			got := parse(t, string(text))
			require.Equal(t, "scratch", got.base, "an empty base")
			require.Equal(t, c.Programs, got.programs)
			require.Equal(t, c.Entrypoint, got.entrypoint)
			require.Equal(t, c.Cmd, got.cmd)
			require.Equal(t, c.User, got.user)
		})
	}
}

// dockerfile is what the last stage of one makes.
type dockerfile struct {
	base, user      string
	programs        map[string]string // path in the image to the package it was built from
	entrypoint, cmd []string
}

// variables are how a Dockerfile names the version.
var variables = regexp.MustCompile(`\$(VERSION|\{VERSION\})`)

func parse(t *testing.T, text string) dockerfile {
	t.Helper()
	d := dockerfile{}
	built := map[string]string{} // path in the build stage to package
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		switch args := words[1:]; words[0] {
		case "FROM":
			d = dockerfile{base: args[0], programs: map[string]string{}}
		case "RUN":
			for i, word := range args {
				if word == "-o" {
					flags := component.Flags("V")
					want := strings.Join(append(component.Environment(), strings.Join(flags[:len(flags)-1], " "), strconv.Quote(flags[len(flags)-1])), " ")
					require.Contains(t, variables.ReplaceAllString(line, "V"), strings.Replace(want, flags[0], "go build "+flags[0], 1))
					packages := args[i+2:]
					if end := slices.Index(packages, "&&"); end >= 0 {
						packages = packages[:end]
					}
					for _, pkg := range packages { // one into a file, or several into a directory
						to := args[i+1]
						if len(packages) > 1 {
							to = filepath.Join(to, filepath.Base(pkg))
						}
						built[to] = pkg
					}
				}
			}
		case "COPY":
			to := args[len(args)-1]
			for path, pkg := range built { // a file, or a directory that it is in
				for _, from := range args[1 : len(args)-1] {
					rest, in := strings.CutPrefix(path, from)
					if in && rest == "" && strings.HasSuffix(to, "/") {
						rest = filepath.Base(path)
					}
					if args[0] == "--from=build" && in {
						d.programs[filepath.Join(to, rest)] = pkg
					}
				}
			}
		case "ENTRYPOINT":
			require.NoError(t, json.Unmarshal([]byte(strings.Join(args, " ")), &d.entrypoint))
		case "CMD":
			require.NoError(t, json.Unmarshal([]byte(strings.Join(args, " ")), &d.cmd))
		case "USER":
			d.user = args[0]
		}
	}
	return d
}
