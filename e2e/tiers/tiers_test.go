// SPDX-License-Identifier: Apache-2.0

package tiers_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/tiers"
)

const house = "github.com/sriovkit/sriovkit/"

// TestFaults writes a module with one test file and says what is wrong with it.
func TestFaults(t *testing.T) {
	t.Parallel()
	const need = "import (\"testing\"; \"" + house + "libsriov/sriovtest\"; \"" + house + "e2e/vm\"; \"" + house + "e2e/cluster\")\n"
	for name, tc := range map[string]struct {
		file, dir string // default x_test.go in module "lib", which is in a suite
		text      string
		want      []string
	}{
		"host":                 {text: need + "func TestA(t *testing.T) {}\nfunc FuzzA(f *testing.F) {}\nfunc BenchmarkA(b *testing.B) {}"},
		"node":                 {text: need + "func TestNodeA(t *testing.T) { sriovtest.NeedNode(t) }"},
		"through a helper":     {text: need + "func TestNodeA(t *testing.T) { e := start(t); _ = e }\nfunc start(t *testing.T) int { need(t); return 0 }\nfunc need(t *testing.T) { sriovtest.NeedNode(t) }"},
		"through a method":     {text: need + "type e struct{}\nfunc TestNodeA(t *testing.T) { new(e).need(t) }\nfunc (e) need(t *testing.T) { sriovtest.NeedNode(t) }"},
		"through a variable":   {text: need + "var each = map[string]func(*testing.T){\"a\": need}\nfunc TestNodeA(t *testing.T) { each[\"a\"](t) }\nfunc need(t *testing.T) { sriovtest.NeedNode(t) }"},
		"a local of that name": {text: need + "func TestA(t *testing.T) { need := 1; _ = struct{ need int }{need: need} }\nfunc need(t *testing.T) { sriovtest.NeedNode(t) }\nfunc TestNodeB(t *testing.T) { need(t) }"},
		"renamed import":       {text: "import (\"testing\"; x \"" + house + "libsriov/sriovtest\")\nfunc TestNodeA(t *testing.T) { x.NeedNode(t) }"},
		"cluster":              {dir: "e2e/features", text: need + "func TestClusterA(t *testing.T) { cluster.Need(t) }"},
		"long":                 {dir: "e2e/features", text: need + "func TestLongA(t *testing.T) { cluster.NeedLong(t) }"},
		"beside nodes":         {dir: "e2e/vm2", text: need + "func TestNodeA(t *testing.T) { vm.Need(t) }"},
		"by one pattern":       {dir: "split", text: need + "func TestNodeNear(t *testing.T) { sriovtest.NeedNode(t) }\nfunc TestNodeFarA(t *testing.T) { sriovtest.NeedNode(t) }"},
		"nested module":        {dir: "e2e/nested", text: "import \"testing\"\nfunc TestA(t *testing.T) {}"},
		"not tests":            {text: need + "func TestMain(m *testing.M) {}\nfunc Testimony(t *testing.T) {}\nfunc TestTwo(t *testing.T, n int) {}\nfunc TestNodeHelper(n int) {}"},

		"only the name":          {text: need + "func TestNodeSelector(t *testing.T) {}", want: []string{"lib/x_test.go:3: TestNodeSelector is named as a test of the node tier and has no guard: begin it with sriovtest.NeedNode(t), or name it otherwise"}},
		"only the name, cluster": {text: need + "func TestClusterNetwork(t *testing.T) {}", want: []string{"lib/x_test.go:3: TestClusterNetwork is named as a test of the cluster tier and has no guard: begin it with cluster.Need(t), or name it otherwise"}},
		"only the name, long":    {text: need + "func TestLongName(t *testing.T) {}", want: []string{"lib/x_test.go:3: TestLongName is named as a test of the long tier and has no guard: begin it with cluster.NeedLong(t), or name it otherwise"}},
		"only the guard":         {text: need + "func TestA(t *testing.T) { sriovtest.NeedNode(t) }", want: []string{"lib/x_test.go:3: TestA runs nowhere: it calls " + house + "libsriov/sriovtest.NeedNode, but no suite looks for its name; begin it with TestNode"}},
		"another tier's guard":   {dir: "e2e/features", text: need + "func TestNodeA(t *testing.T) { cluster.Need(t) }", want: []string{"e2e/features/x_test.go:3: TestNodeA is named as a test of the node tier and calls " + house + "e2e/cluster.Need of the cluster tier"}},
		"two guards":             {text: need + "func TestNodeA(t *testing.T) { sriovtest.NeedNode(t); vm.Need(t) }", want: []string{"lib/x_test.go:3: TestNodeA has the guards of two tiers, " + house + "e2e/vm.Need and " + house + "libsriov/sriovtest.NeedNode: split it"}},
		"no suite":               {dir: "other", text: need + "func TestNodeA(t *testing.T) { sriovtest.NeedNode(t) }", want: []string{"other/x_test.go:3: TestNodeA runs nowhere: no suite has its package; add one to Suites in e2e/node/suite.go"}},
		"two suites":             {dir: "twice", text: need + "func TestNodeA(t *testing.T) { sriovtest.NeedNode(t) }", want: []string{"twice/x_test.go:3: TestNodeA runs twice: it is in the suites a and b of e2e/node/suite.go"}},
		"cluster elsewhere":      {text: need + "func TestClusterA(t *testing.T) { cluster.Need(t) }", want: []string{"lib/x_test.go:3: TestClusterA runs nowhere: tests that call " + house + "e2e/cluster.Need are looked for in module e2e only"}},
		"guarded fuzz target":    {text: need + "func FuzzA(f *testing.F) { sriovtest.NeedNode(f) }", want: []string{"lib/x_test.go:3: FuzzA calls " + house + "libsriov/sriovtest.NeedNode, but fuzz targets and benchmarks run on this machine only"}},
		"build tag":              {text: "import \"testing\"\nfunc TestA(t *testing.T) {}", file: "//go:build integration\n\n", want: []string{"lib/x_test.go:5: TestA runs nowhere: its build constraints are met by no command"}},
		"by no pattern":          {dir: "split", text: need + "func TestNodeFarC(t *testing.T) { sriovtest.NeedNode(t) }", want: []string{"split/x_test.go:3: TestNodeFarC runs nowhere: the patterns of near and far in e2e/node/suite.go leave it out"}},
		"by two patterns":        {dir: "split", text: need + "func TestNodeBoth(t *testing.T) { sriovtest.NeedNode(t) }", want: []string{"split/x_test.go:3: TestNodeBoth runs twice: it is in the suites near and far of e2e/node/suite.go"}},
		"nested, no recipe":      {dir: "e2e/forgotten", text: "import \"testing\"\nfunc TestA(t *testing.T) {}", want: []string{"e2e/forgotten/x_test.go:3: TestA runs nowhere: no recipe of the Makefile has cd into its module and go test"}},
		"nested fuzz target":     {dir: "e2e/nested", text: "import \"testing\"\nfunc FuzzA(f *testing.F) {}", want: []string{"e2e/nested/x_test.go:3: FuzzA runs nowhere: fuzz targets and benchmarks of modules outside the workspace are not looked for"}},
		"outside go.work":        {dir: "stranger", text: "import \"testing\"\nfunc TestA(t *testing.T) {}", want: []string{"stranger/x_test.go:3: TestA runs nowhere: module " + house + "stranger is neither in go.work nor in NESTED of the Makefile"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkout := t.TempDir()
			write := func(name, content string) {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(checkout, name)), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(checkout, name), []byte(content), 0o644))
			}
			write("go.work", "go 1.26.0\n\nuse (\n\t./lib\n\t./e2e\n\t./other\n\t./twice\n\t./split\n)\n")
			write("Makefile", "NESTED := e2e/nested e2e/forgotten\n\ntest-nested:\n\tcd e2e/nested && GOWORK=off go test ./...\n\tcd e2e/forgotten && go vet ./...\n")
			for _, m := range []string{"lib", "e2e", "e2e/nested", "e2e/forgotten", "other", "twice", "split", "stranger"} {
				write(m+"/go.mod", "module "+house+m+"\n\ngo 1.26.0\n")
			}
			dir := tc.dir
			if dir == "" {
				dir = "lib"
			}
			write(filepath.Join(dir, "x_test.go"), tc.file+"package x\n"+tc.text)
			functions, err := tiers.Load(t.Context(), checkout)
			require.NoError(t, err)
			suites := []tiers.Suite{{Name: "lib", Dir: "lib"}, {Name: "a", Dir: "twice"}, {Name: "b", Dir: "twice"}, {Name: "near", Dir: "split", Tests: "^TestNode(Near|Both)"}, {Name: "far", Dir: "split", Tests: "^TestNode(FarA|Both)"}}
			require.Equal(t, tc.want, tiers.Faults(functions, suites))
		})
	}
}
