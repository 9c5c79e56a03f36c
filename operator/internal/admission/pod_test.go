// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// applied is a pod's manifest after its needs were written into it.
func applied(t *testing.T, n *needs, manifest string) (string, *corev1.Pod) {
	t.Helper()
	var obj map[string]any
	var pod corev1.Pod
	require.NoError(t, json.Unmarshal([]byte(manifest), &obj))
	require.NoError(t, json.Unmarshal([]byte(manifest), &pod))
	require.NoError(t, n.apply(&pod, obj))
	out, err := json.Marshal(obj)
	require.NoError(t, err)
	var after corev1.Pod
	require.NoError(t, json.Unmarshal(out, &after))
	return string(out), &after
}

func TestResourcesOfAPod(t *testing.T) {
	for name, tc := range map[string]struct {
		containers string
		want       map[string]string // container/list/resource
	}{
		"nothing there":             {`[{"name":"a"},{"name":"b"}]`, map[string]string{"a": "2"}},
		"enough":                    {`[{"name":"a","resources":{"limits":{"x.io/r":"2"},"requests":{"x.io/r":"2"}}}]`, map[string]string{"a": "2"}},
		"more":                      {`[{"name":"a","resources":{"limits":{"x.io/r":"5"},"requests":{"x.io/r":"5"}}}]`, map[string]string{"a": "5"}},
		"one is missing":            {`[{"name":"a","resources":{"limits":{"x.io/r":"1","cpu":"1"},"requests":{"x.io/r":"1"}}}]`, map[string]string{"a": "2"}},
		"limits only":               {`[{"name":"a","resources":{"limits":{"x.io/r":"1"}}}]`, map[string]string{"a": "2"}},
		"with another":              {`[{"name":"a"},{"name":"b","resources":{"limits":{"x.io/r":"1"},"requests":{"x.io/r":"1"}}}]`, map[string]string{"a": "1", "b": "1"}},
		"all with another":          {`[{"name":"a"},{"name":"b","resources":{"limits":{"x.io/r":"2"},"requests":{"x.io/r":"2"}}}]`, map[string]string{"b": "2"}},
		"fields of a later version": {`[{"name":"a","novelty":{"deep":[1,2.5]}}]`, map[string]string{"a": "2"}},
	} {
		t.Run(name, func(t *testing.T) {
			manifest := `{"metadata":{"annotations":{"k":"v"}},"spec":{"containers":` + tc.containers + `}}`
			n := needs{resources: map[string]int64{"x.io/r": 2}}
			text, pod := applied(t, &n, manifest)
			got := map[string]string{}
			for _, c := range pod.Spec.Containers {
				if q, ok := c.Resources.Limits["x.io/r"]; ok {
					got[c.Name] = q.String()
					require.Equal(t, q, c.Resources.Requests["x.io/r"])
				}
				require.Equal(t, podInfoPath, c.VolumeMounts[0].MountPath)
			}
			require.Equal(t, tc.want, got)
			again, _ := applied(t, &needs{resources: n.resources}, text)
			require.JSONEq(t, text, again, "once is enough")
			if name == "fields of a later version" {
				require.Contains(t, text, `"novelty":{"deep":[1,2.5]}`)
			}
		})
	}
}

func TestSidecarsCountAndOtherInitContainersDoNot(t *testing.T) {
	const ask = `"resources":{"limits":{"x.io/r":"1"},"requests":{"x.io/r":"1"}}`
	n := needs{resources: map[string]int64{"x.io/r": 2}}
	_, pod := applied(t, &n, `{"spec":{"containers":[{"name":"a"}],"initContainers":[{"name":"i",`+ask+`},{"name":"s","restartPolicy":"Always",`+ask+`}]}}`)
	q := pod.Spec.Containers[0].Resources.Limits["x.io/r"]
	require.Equal(t, "1", q.String())
}

func TestPodInfo(t *testing.T) {
	n := needs{resources: map[string]int64{"x.io/r": 1}}
	_, pod := applied(t, &n, `{"metadata":{"labels":{"l":"1"},"annotations":{"a":"1"}},"spec":{"containers":[
		{"name":"a","resources":{"limits":{"hugepages-1Gi":"2Gi","memory":"1Gi"},"requests":{"hugepages-1Gi":"2Gi"}}},
		{"name":"b","volumeMounts":[{"name":"mine","mountPath":"/etc/podnetinfo"}]}],"volumes":[{"name":"mine","emptyDir":{}}]}}`)
	var paths []string
	for _, i := range pod.Spec.Volumes[1].DownwardAPI.Items {
		paths = append(paths, i.Path)
	}
	require.Equal(t, []string{"labels", "annotations", "hugepages_1G_request_a", "hugepages_1G_limit_a"}, paths)
	require.Equal(t, []corev1.EnvVar{{Name: "CONTAINER_NAME", Value: "a"}}, pod.Spec.Containers[0].Env)
	require.Len(t, pod.Spec.Containers[1].VolumeMounts, 1, "what the user mounted there stays")

	text, pod := applied(t, &needs{labels: map[string]string{"zone": "z"}}, `{"spec":{"containers":[{"name":"a"}]}}`)
	require.NotContains(t, text, podInfoVolume, "a network without a resource")
	require.Equal(t, map[string]string{"zone": "z"}, pod.Spec.NodeSelector)
}

func TestNeedsOfNetworks(t *testing.T) {
	n := needs{resources: map[string]int64{}, labels: map[string]string{}}
	s := selection{"ns", "net"}
	for range 2 {
		n.add(s, map[string]string{v1.AnnotationResourceName: "x.io/r", v1.AnnotationNodeSelector: " zone = a "})
	}
	n.add(s, nil)
	require.Empty(t, n.warnings)
	n.add(s, map[string]string{v1.AnnotationResourceName: "cpu", v1.AnnotationNodeSelector: "zone=b"})
	n.add(s, map[string]string{v1.AnnotationResourceName: "requests.kubernetes.io/x", v1.AnnotationNodeSelector: "a=b=c"})
	require.Equal(t, map[string]int64{"x.io/r": 2}, n.resources)
	require.Equal(t, map[string]string{"zone": "b"}, n.labels)
	require.Len(t, n.warnings, 4)
}
