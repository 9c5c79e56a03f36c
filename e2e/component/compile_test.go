// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
)

// TestSameImagesFromTwoDirectories builds every image from this checkout, with its
// workspace, and from a copy of the modules elsewhere, without one.
func TestSameImagesFromTwoDirectories(t *testing.T) {
	t.Parallel()
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	elsewhere := filepath.Join(t.TempDir(), "a", "longer", "path")
	modules := []string{"libsriov"}
	for _, c := range component.All {
		modules = append(modules, c.Name)
	}
	for _, m := range modules {
		require.NoError(t, os.CopyFS(filepath.Join(elsewhere, m), os.DirFS(filepath.Join(checkout, m))))
	}
	here, there := digests(t, checkout), digests(t, elsewhere)
	require.Len(t, here, len(component.All))
	require.Equal(t, here, there)
}

// digests builds all images and returns the digests of their archives.
func digests(t *testing.T, checkout string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, component.Build(t.Context(), checkout, dir, component.Tag, component.All...))
	sums := map[string]string{}
	for _, c := range component.All {
		archive, err := os.ReadFile(c.Archive(dir))
		require.NoError(t, err)
		sum := sha256.Sum256(archive)
		sums[c.Name] = hex.EncodeToString(sum[:])
	}
	return sums
}

func TestPrograms(t *testing.T) {
	t.Parallel()
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, component.Programs(t.Context(), checkout, dir, "sriov"))
	out, err := exec.Command(filepath.Join(dir, "sriov"), "-version").CombinedOutput()
	require.NoError(t, err)
	require.Contains(t, string(out), component.Version)
	built, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, built, 1, "only what was asked for")
	require.ErrorContains(t, component.Programs(t.Context(), checkout, dir, "sriovdpp"), `program "sriovdpp", want one of the components'`)
}

// TestOneWayOfBuilding looks for commands that build a component's program without the
// flags of Compile. They are found by their text, a line each.
func TestOneWayOfBuilding(t *testing.T) {
	t.Parallel()
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	var names []string
	for _, c := range component.All {
		for _, pkg := range c.Programs {
			names = append(names, filepath.Base(pkg))
		}
	}
	builds := regexp.MustCompile(`"?go"?,? "?(build|install|run)\b.*cmd/(` + strings.Join(names, "|") + `)\b`)
	require.Regexp(t, builds, `exec.Command("go", "build", "-o", x, "./cmd/sriov")`)
	require.Regexp(t, builds, "\tgo build -o bin/sriovdp ./device-plugin/cmd/sriovdp")
	require.NoError(t, filepath.WalkDir(checkout, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if name := d.Name(); file != checkout && (name == "bin" || strings.HasPrefix(name, ".")) {
				return filepath.SkipDir
			}
			return err
		}
		if name := d.Name(); filepath.Ext(name) != ".go" && filepath.Ext(name) != ".sh" && name != "Makefile" && name != "Dockerfile" {
			return nil
		}
		text, err := os.ReadFile(file)
		for i, line := range strings.Split(string(text), "\n") {
			if builds.MatchString(line) && !strings.Contains(line, "-trimpath") && filepath.Base(file) != "compile_test.go" {
				t.Errorf("%s:%d builds a program unlike it is shipped; use component.Compile, lab programs, or its flags: %s", file, i+1, strings.TrimSpace(line))
			}
		}
		return err
	}))
}

// TestLinked looks at what each program links as it is shipped.
func TestLinked(t *testing.T) {
	t.Parallel()
	const otel, client = "go.opentelemetry.io/", "k8s.io/client-go/"
	everywhere := map[string]string{
		"github.com/stretchr/testify/":                    "for tests",
		"testing":                                         "for tests",
		"github.com/sriovkit/sriovkit/e2e/":               "for tests",
		"github.com/sriovkit/sriovkit/libsriov/sriovtest": "for tests",
		"github.com/spf13/cobra":                          "flags come from the standard library",
		"k8s.io/kubernetes/":                              "the published staging modules suffice",
	}
	perProgram := map[string]map[string]string{
		"sriov":             {otel: "a third of the program, and it traces nothing", client: "start-up cost of every ADD", "google.golang.org/grpc": "speaks to the kernel only"},
		"multus-shim":       {otel: "a third of the program, and it traces nothing", client: "start-up cost of every ADD", "google.golang.org/grpc": "start-up cost of every ADD"},
		"sriovdp":           {otel: "traces nothing", client: "15 MB on every node for nothing: the plugin asks kubelet only", "golang.org/x/net/trace": "nobody looks at gRPC's trace pages, and templates are a fifth of the program"},
		"sriovkit-operator": {otel: "traces nothing"},
	}
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	for _, c := range component.All {
		for _, pkg := range c.Programs {
			list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", component.Flags("")[2], pkg)
			list.Dir, list.Env = filepath.Join(checkout, c.Name), append(os.Environ(), component.Environment()...)
			out, err := list.Output()
			require.NoError(t, err)
			for _, forbidden := range []map[string]string{everywhere, perProgram[filepath.Base(pkg)]} {
				for path, why := range forbidden {
					for dep := range strings.FieldsSeq(string(out)) {
						if dep == path || strings.HasPrefix(dep, strings.TrimSuffix(path, "/")+"/") {
							t.Errorf("%s links %s: %s", filepath.Base(pkg), dep, why)
						}
					}
				}
			}
		}
	}
}
