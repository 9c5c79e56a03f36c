// SPDX-License-Identifier: Apache-2.0

// Package alerts tries the alert rules of the operator with Prometheus' own promtool. It is
// a module of its own, outside the workspace, for promtool takes minutes to compile once.
package alerts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// program is promtool, built once for all tests.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "promtool-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "promtool")
	// Rules need no service discovery, and the clients of all clouds take most of the time.
	cmd := exec.Command("go", "build", "-tags=remove_all_sd", "-o", program, "github.com/prometheus/prometheus/cmd/promtool")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build promtool: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// promtool runs it and returns what it says.
func promtool(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	return string(out), err
}

// rules writes the rules as Prometheus reads them, after an edit, beside their tests.
func rules(t *testing.T, edit func(string) string) (dir string, alerts []string) {
	t.Helper()
	text, err := os.ReadFile("../../operator/config/components/monitoring/rules.yaml")
	require.NoError(t, err)
	var object struct {
		Spec struct {
			Groups []struct {
				Name  string           `json:"name"`
				Rules []map[string]any `json:"rules"`
			} `json:"groups"`
		} `json:"spec"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(edit(string(text))), &object))
	for _, g := range object.Spec.Groups {
		for _, r := range g.Rules {
			alerts = append(alerts, r["alert"].(string))
		}
	}
	dir = t.TempDir()
	plain, err := yaml.Marshal(object.Spec)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rules.yaml"), plain, 0o600))
	tests, err := os.ReadFile("testdata/rules_test.yaml")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rules_test.yaml"), tests, 0o600))
	for _, alert := range alerts {
		require.Contains(t, string(tests), "alertname: "+alert+"\n        exp_alerts:", "an alert that no test lets fire")
	}
	return dir, alerts
}

func TestRules(t *testing.T) {
	t.Parallel()
	dir, alerts := rules(t, func(s string) string { return s })
	require.Len(t, alerts, 9)
	out, err := promtool(t, "check", "rules", "--lint=all", "--lint-fatal", filepath.Join(dir, "rules.yaml"))
	require.NoError(t, err, out)
	out, err = promtool(t, "test", "rules", filepath.Join(dir, "rules_test.yaml"))
	require.NoError(t, err, out)
}

// The tests see a rule that another limit, state or sum would break.
func TestBrokenRulesAreFound(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string][2]string{
		"state":    {`sync="Failed"`, `sync="Broken"`},
		"time":     {"for: 30m", "for: 20m"},
		"counting": {`max(sriovkit_operator_nodes{sync="Failed"})`, `sum(sriovkit_operator_nodes{sync="Failed"})`},
		"labels":   {"sum by (node, resource) (sriovdp_devices", "sum by (resource) (sriovdp_devices"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, _ := rules(t, func(s string) string {
				require.Contains(t, s, edit[0])
				return strings.Replace(s, edit[0], edit[1], 1)
			})
			out, err := promtool(t, "test", "rules", filepath.Join(dir, "rules_test.yaml"))
			require.Error(t, err)
			require.Contains(t, out, "FAILED")
		})
	}
}
