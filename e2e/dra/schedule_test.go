// SPDX-License-Identifier: Apache-2.0

package dra_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/controlplane"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// heartbeat is less than what the node controller waits for.
const heartbeat = 10 * time.Second

// keepReady is the kubelet of a node as far as the scheduler cares.
func (e *env) keepReady(node string) {
	e.Helper()
	beat := func() error {
		now := time.Now().UTC().Format(time.RFC3339)
		room := `{"pods": "110", "cpu": "8", "memory": "16Gi"}`
		_, err := e.Kubectl(e.Context(), nil, "patch", "node", node, "--subresource=status", "--type=merge", "-p", `{"status": {"capacity": `+room+`, "allocatable": `+room+`,
			"conditions": [{"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": "`+now+`", "lastTransitionTime": "`+now+`"}]}}`)
		return err
	}
	require.NoError(e, beat())
	go func() {
		for {
			select {
			case <-e.Context().Done():
				return
			case <-time.After(heartbeat):
				_ = beat() // the next one may get there
			}
		}
	}()
}

// gpus are a device of another driver, below the second root complex of a node, and claims that
// no sample has.
const gpus = `
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: gpus}
spec:
  driver: gpu.example.com
  nodeName: NODE
  pool: {name: gpus, generation: 1, resourceSliceCount: 1}
  devices: [{name: gpu-0, attributes: {resource.kubernetes.io/pcieRoot: {string: "pci0000:40"}}}]
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpu.example.com}
spec: {selectors: [{cel: {expression: device.driver == "gpu.example.com"}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: two-at-a-numa-node}
spec:
  spec:
    devices:
      requests: [{name: vfs, exactly: {deviceClassName: vfs.example.com, allocationMode: ExactCount, count: 2}}]
      constraints:
      - {matchAttribute: resource.kubernetes.io/numaNode}
      - {distinctAttribute: sriovnetwork.k8snetworkplumbingwg.io/pfPciAddress}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: nothing-meets-it}
spec:
  spec:
    devices:
      requests:
      - {name: a, exactly: {deviceClassName: vfs.example.com, selectors: [{cel: {expression: 'device.attributes["sriovnetwork.k8snetworkplumbingwg.io"].PFName == "pf0"'}}]}}
      - {name: b, exactly: {deviceClassName: vfs.example.com, selectors: [{cel: {expression: 'device.attributes["sriovnetwork.k8snetworkplumbingwg.io"].PFName == "pf1"'}}]}}
      constraints: [{matchAttribute: resource.kubernetes.io/pcieRoot}]
`

// templatePod is a pod with a claim of a template, and has its name.
func templatePod(template, networks string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, annotations: {k8s.v1.cni.cncf.io/networks: "%[2]s"}}
spec:
  resourceClaims: [{name: nic, resourceClaimTemplateName: %[1]s}]
  containers: [{name: app, image: busybox, resources: {claims: [{name: nic}]}}]
`, template, networks)
}

type allocated struct{ Request, Driver, Device string }

// allocation awaits that a pod is scheduled, and returns what it got.
func (e *env) allocation(pod string) []allocated {
	e.Helper()
	var p struct {
		Spec   struct{ NodeName string }
		Status struct {
			ResourceClaimStatuses       []struct{ ResourceClaimName string }
			ExtendedResourceClaimStatus struct{ ResourceClaimName string }
		}
	}
	require.EventuallyWithT(e, func(t *assert.CollectT) {
		e.get(t, &p, "pod", pod)
		require.NotEmpty(t, p.Spec.NodeName)
	}, patience, 200*time.Millisecond, "pod %s is not scheduled", pod)
	name := p.Status.ExtendedResourceClaimStatus.ResourceClaimName
	if len(p.Status.ResourceClaimStatuses) > 0 {
		name = p.Status.ResourceClaimStatuses[0].ResourceClaimName
	}
	var claim struct {
		Status struct {
			Allocation struct {
				Devices struct{ Results []allocated }
			}
		}
	}
	require.NoError(e, json.Unmarshal([]byte(e.kubectl("", "get", "resourceclaim", name, "-o", "json")), &claim))
	require.NotEmpty(e, claim.Status.Allocation.Devices.Results, pod)
	return claim.Status.Allocation.Devices.Results
}

// byClass asks for a VF by the name that every class has as a resource.
const byClass = `
---
apiVersion: v1
kind: Pod
metadata: {name: by-class, annotations: {k8s.v1.cni.cncf.io/networks: blue}}
spec: {containers: [{name: app, image: busybox, resources: {limits: {deviceclass.resource.kubernetes.io/vfs.example.com: 1}}}]}
`

// networksOf are what pods of templates select; others select none.
var networksOf = map[string]string{"two-vfs": "blue, blue", "two-at-a-numa-node": "blue, blue", "vf": "blue", "vf-and-gpu": "blue", "dpdk-or-kernel": "blue"}

// applySamples makes all that the documentation shows, with an image that the nodes have, and
// a pod for each template of a claim. It returns the pods that can run.
func (e *env) applySamples(node, image string) (pods []string) {
	e.Helper()
	checkout, err := component.Checkout(e.Context())
	require.NoError(e, err)
	docs, err := os.ReadFile(filepath.Join(checkout, "device-plugin/docs/dra.md"))
	require.NoError(e, err)
	samples, err := filepath.Glob(filepath.Join(checkout, "device-plugin/deploy/dra/samples/*.yaml"))
	require.NoError(e, err)
	pods = []string{"by-claim", "unchanged", "by-class"}
	templates := []string{"two-at-a-numa-node"}
	e.kubectl(strings.Replace(gpus, "NODE", node, 1), "apply", "-f", "-")
	for _, s := range samples {
		require.Contains(e, string(docs), "samples/"+filepath.Base(s))
		text, err := os.ReadFile(s)
		require.NoError(e, err)
		e.kubectl(strings.ReplaceAll(string(text), "image: busybox", "image: "+image), "apply", "--validate=strict", "-f", "-")
		for _, m := range regexp.MustCompile(`kind: ResourceClaimTemplate\nmetadata:\n  name: (\S+)`).FindAllSubmatch(text, -1) {
			templates = append(templates, string(m[1]))
		}
	}
	manifest := templatePod("nothing-meets-it", "") + byClass
	for _, template := range templates {
		manifest += templatePod(template, networksOf[template])
	}
	e.kubectl(strings.ReplaceAll(manifest, "image: busybox", "image: "+image), "apply", "--validate=strict", "-f", "-")
	return append(pods, templates...)
}

// checkSamples checks that each pod has got devices where its sample says that they are, and
// none what another has. It returns the devices of each.
func (e *env) checkSamples(pods []string, slices []slice) map[string][]allocated {
	e.Helper()
	known := map[string]device{}
	for _, s := range slices {
		for _, d := range s.Spec.Devices {
			known[d.Name] = d
		}
	}
	value := func(d allocated, attribute string) string {
		require.Equal(e, driver, d.Driver)
		require.Contains(e, known, d.Device)
		a := known[d.Device].Attributes[attribute]
		if a.Int != nil {
			return fmt.Sprint(*a.Int)
		}
		require.NotEmpty(e, a.String, attribute)
		return a.String
	}
	const root, numa, pf = "resource.kubernetes.io/pcieRoot", "resource.kubernetes.io/numaNode", "pfPciAddress"
	two := func(same string) func(pod string, got []allocated) {
		return func(pod string, got []allocated) {
			require.Len(e, got, 2, pod)
			require.Equal(e, value(got[0], same), value(got[1], same), pod)
			require.NotEqual(e, value(got[0], pf), value(got[1], pf), pod)
		}
	}
	checks := map[string]func(pod string, got []allocated){
		"two-vfs":            two(root),
		"two-at-a-numa-node": two(numa),
		"vf-and-gpu": func(_ string, got []allocated) {
			require.Len(e, got, 2)
			require.Equal(e, allocated{"gpu", "gpu.example.com", "gpu-0"}, got[1])
			require.Equal(e, "pci0000:40", value(got[0], root))
		},
		"dpdk-or-kernel": func(_ string, got []allocated) { require.Equal(e, "vf/kernel", got[0].Request) },
		"intel-vf":       func(_ string, got []allocated) { require.Equal(e, "pf3", value(got[0], "PFName")) },
	}
	taken := map[string]string{}
	out := map[string][]allocated{}
	for _, pod := range pods {
		out[pod] = e.allocation(pod)
		if check := checks[pod]; check != nil {
			check(pod, out[pod])
			delete(checks, pod)
		}
		for _, d := range out[pod] {
			require.Empty(e, taken[d.Driver+d.Device], "%s and %s have %s", pod, taken[d.Driver+d.Device], d.Device)
			taken[d.Driver+d.Device] = pod
		}
	}
	require.Empty(e, checks, "samples that are gone")
	require.Contains(e, e.kubectl("", "get", "pod", "nothing-meets-it", "-o", "jsonpath={.status.conditions[*].reason}{.spec.nodeName}"), "Unschedulable")
	return out
}

// TestSamples runs what the documentation shows: the API server takes it, and the scheduler
// gives each pod devices that the driver publishes, where the sample says that they are. The
// host has four PFs, by turns below two root complexes and at two NUMA nodes, so that the
// first two that the scheduler sees are not below one.
func TestSamples(t *testing.T) {
	e := newEnv(t, controlplane.Config{Controllers: true})
	e.build()
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	host := sriovtest.Generate(sriovtest.Spec{PFs: 4, VFs: 4})
	for _, bus := range []string{"05", "0d"} {
		host = strings.ReplaceAll(host, "pci0000:00/0000:"+bus, "pci0000:40/0000:"+bus)
	}
	e.start("a", host)
	slices := e.slices("a", 16)
	e.kubectl("", "apply", "-f", filepath.Join(checkout, "multus-shim/deploy/crd.yaml"))
	e.kubectl("", "wait", "crd/network-attachment-definitions.k8s.cni.cncf.io", "--for=condition=Established", "--timeout=60s")
	e.keepReady("a")
	e.checkSamples(e.applySamples("a", "busybox"), slices)
}
