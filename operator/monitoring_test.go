// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

var (
	metricName = regexp.MustCompile(`\bsriov(?:kit|dp)?_[a-z0-9_]+\b`)
	labelValue = regexp.MustCompile(`=("\w+")`)
)

// sources are those of what has metrics, as one text.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"api", "internal", "../device-plugin"} {
		require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			all.Write(text)
			return err
		}))
	}
	return all.String()
}

// declared are the names of the metrics in the sources of the modules, read from the
// declarations: a dashboard that asks for a metric that nobody has shows nothing for ever.
func declared(t *testing.T) map[string]bool {
	t.Helper()
	names, text := map[string]bool{}, sources(t)
	for _, m := range regexp.MustCompile(`"(sriov(?:kit|dp)?_[a-z0-9_]+)"`).FindAllStringSubmatch(text, -1) {
		names[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`vfDesc\("([a-z_]+)"`).FindAllStringSubmatch(text, -1) {
		names["sriov_vf_"+m[1]] = true
	}
	require.Contains(t, names, "sriovkit_operator_nodes")
	require.Contains(t, names, "sriov_vf_rx_bytes")
	return names
}

func TestMonitoringAsksForWhatThereIs(t *testing.T) {
	names, text := declared(t), sources(t)
	values := 0
	for _, file := range []string{"rules.yaml", "dashboard.json"} {
		manifest, err := os.ReadFile(filepath.Join("config/components/monitoring", file))
		require.NoError(t, err)
		var asked []string
		if file == "rules.yaml" {
			var rule struct {
				Spec struct {
					Groups []struct {
						Rules []struct {
							Alert, Expr, For string
							Labels           map[string]string
							Annotations      map[string]string
						}
					}
				}
			}
			require.NoError(t, yaml.Unmarshal(manifest, &rule))
			for _, r := range rule.Spec.Groups[0].Rules {
				require.NotEmpty(t, r.Expr)
				require.NotEmpty(t, r.For, r.Alert)
				require.NotEmpty(t, r.Labels["severity"], r.Alert)
				require.NotEmpty(t, r.Annotations["summary"], r.Alert)
				asked = append(asked, r.Expr)
			}
		} else {
			var dashboard struct {
				Panels []struct {
					Title   string
					Targets []struct{ Expr string }
				}
			}
			require.NoError(t, json.Unmarshal(manifest, &dashboard))
			for _, p := range dashboard.Panels {
				require.NotEmpty(t, p.Targets, p.Title)
				for _, target := range p.Targets {
					asked = append(asked, target.Expr)
				}
			}
		}
		for _, expr := range asked {
			found := metricName.FindAllString(expr, -1)
			require.NotEmpty(t, found, expr)
			for _, name := range found {
				require.Contains(t, names, strings.TrimSuffix(name, "_bucket"), expr)
			}
			for _, m := range labelValue.FindAllStringSubmatch(expr, -1) {
				require.True(t, strings.Contains(text, m[1]), "%s stands in no source: %s", m[1], expr)
				values++
			}
		}
	}
	require.Greater(t, values, 3)
}

// kubectl sriov top asks for metrics that device plugins have.
func TestTopAsksForWhatThereIs(t *testing.T) {
	names := declared(t)
	text, err := os.ReadFile("cmd/kubectl-sriov/top.go")
	require.NoError(t, err)
	asked := metricName.FindAllString(string(text), -1)
	require.NotEmpty(t, asked)
	for _, name := range asked {
		require.Contains(t, names, name)
	}
}

// Containers, and pods, that share a claim have one VF in several series: a join in which those
// are to be found once fails, and with it a picture of the whole cluster.
func TestDashboardJoinsSharedVFs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("config/components/monitoring/dashboard.json")
	require.NoError(t, err)
	joins := regexp.MustCompile(`"expr": ".*\bon \(.*`).FindAllString(string(text), -1)
	require.Len(t, joins, 2)
	for _, join := range joins {
		many, one, ok := strings.Cut(join, " * on (pciAddr, node) group_left () ")
		require.True(t, ok, join)
		require.Contains(t, many, "max by (pciAddr, node, namespace, pod) (sriov_kubepoddevice)")
		require.True(t, strings.HasPrefix(one, "max by (pciAddr, node) (rate("), join)
	}
}

// Names follow Prometheus' rules, but for those that clusters know from upstream's exporter.
func TestMetricNames(t *testing.T) {
	_ = os.Getenv("SRIOVKIT_SOURCES") // a file of another module, which the test cache does not see
	for name := range declared(t) {
		if strings.HasPrefix(name, "sriov_") {
			continue
		}
		kind := dto.MetricType_GAUGE
		if strings.HasSuffix(name, "_total") {
			kind = dto.MetricType_COUNTER
		}
		if strings.HasSuffix(name, "_duration_seconds") || name == "sriovdp_allocate_seconds" {
			kind = dto.MetricType_HISTOGRAM
		}
		help := "help"
		problems, err := promlint.NewWithMetricFamilies([]*dto.MetricFamily{{Name: &name, Help: &help, Type: &kind, Metric: []*dto.Metric{metricOf(kind)}}}).Lint()
		require.NoError(t, err)
		require.Empty(t, problems)
	}
}

func metricOf(kind dto.MetricType) *dto.Metric {
	switch kind {
	case dto.MetricType_COUNTER:
		return &dto.Metric{Counter: &dto.Counter{}}
	case dto.MetricType_HISTOGRAM:
		return &dto.Metric{Histogram: &dto.Histogram{}}
	}
	return &dto.Metric{Gauge: &dto.Gauge{}}
}
