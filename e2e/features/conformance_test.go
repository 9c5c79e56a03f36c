// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/conformance"
)

// TestClusterConformance tries the spare port with the kit as its manifest has it, a Job of
// containerd's: what needs the host's processes, namespaces and drivers works from there.
func TestClusterConformance(t *testing.T) {
	e := newEnv(t)
	checkout, err := component.Checkout(e.ctx)
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "sriov-conformance")
	require.NoError(t, component.Compile(e.ctx, checkout, "e2e", "./cmd/sriov-conformance", program, "linux/amd64", component.Version))
	require.NoError(t, e.Nodes[0].Push(e.ctx, program, "/usr/local/bin/sriov-conformance"))
	text, err := os.ReadFile(filepath.Join(checkout, "e2e/conformance/sriov-conformance.yaml"))
	require.NoError(t, err)
	// The node suite tries all of them; these need more than the PF.
	const only = "^(reports|moves|vfio|plugin: ADD)"
	manifest := string(text)
	for was, is := range map[string]string{
		"nodeName: NODE": "nodeName: node1", "image: busybox": "image: sriovkit.local/busybox:v1", `"0000:00:00.0"`: `"` + spare + `", -only, "` + only + `"`,
	} {
		require.Equal(t, 1, strings.Count(manifest, was), was)
		manifest = strings.Replace(manifest, was, is, 1)
	}
	e.apply(manifest)
	e.Cleanup(func() { e.kubectl("delete", "job", "sriov-conformance", "--cascade=foreground") })
	ended := ""
	e.until("the job ends", func() bool {
		ended = e.get("job", "sriov-conformance", "-o", `jsonpath={.status.conditions[?(@.status=="True")].type}`)
		return strings.Contains(ended, "Complete") || strings.Contains(ended, "Failed")
	})
	said := e.kubectl("logs", "job/sriov-conformance")
	require.Contains(t, ended, "Complete", said)
	// The row for HARDWARE.md is of the other stream, and may come amid the report's lines.
	said = regexp.MustCompile(`(?m)^\|.*\n?`).ReplaceAllString(said, "")
	begin, end := strings.Index(said, "\n{\n"), strings.LastIndex(said, "\n}")
	require.Less(t, max(begin, 0), end, said)
	var report conformance.Report
	require.NoError(t, json.Unmarshal([]byte(said[begin:end+2]), &report))
	require.Equal(t, spare, report.NIC.Address)
	require.True(t, report.Restored)
	require.Equal(t, conformance.Pass, report.Verdict)
	require.Len(t, report.Checks, 4)
	for _, c := range report.Checks {
		require.Equal(t, conformance.Pass, c.Verdict, c.Name+": "+c.Detail)
	}
	require.Equal(t, "0", e.node("cat /sys/bus/pci/devices/"+spare+"/sriov_numvfs"))
}
