// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// claims gives the pod the claim c of the driver d, with the given results and
// configuration, and lets the kubelet have prepared it. The driver publishes vf-2, vf-3
// and vf-4 of resource example.com/vf, and a gpu.
func (e *env) claims(results, config string) {
	e.t.Helper()
	e.prepared(podUID)
	e.api.Put("/api/v1/namespaces/ns1/pods/pod1", `{"metadata":{"uid":"uid-1","name":"pod1","namespace":"ns1"},
		"spec":{"nodeName":"node-a","resourceClaims":[{"name":"vf","resourceClaimName":"c"}]}}`)
	e.api.Put("/apis/resource.k8s.io/v1/namespaces/ns1/resourceclaims/c",
		`{"metadata":{"namespace":"ns1","name":"c"},"status":{"allocation":{"devices":{"results":[`+results+`],"config":[`+config+`]}}}}`)
	vf := func(n string) string {
		return `{"name":"vf-` + n + `","attributes":{"k8s.cni.cncf.io/deviceID":{"string":"0000:01:00.` + n + `"},"k8s.cni.cncf.io/resourceName":{"string":"example.com/vf"}}}`
	}
	e.api.Put("/apis/resource.k8s.io/v1/resourceslices", `{"items":[{"spec":{"driver":"d","pool":{"name":"node-a"},"devices":[`+
		vf("2")+`,`+vf("3")+`,`+vf("4")+`,{"name":"gpu","attributes":{"model":{"string":"x"}}},
		{"name":"nic","attributes":{"resource.kubernetes.io/pciBusID":{"string":"0000:01:00.7"}}}]}}]}`)
}

// prepared writes the kubelet's list of prepared claims, with one of a pod.
func (e *env) prepared(uid string) {
	e.t.Helper()
	dir := e.conf["kubeletDir"].(string)
	require.NoError(e.t, os.MkdirAll(dir, 0o700))
	require.NoError(e.t, os.WriteFile(filepath.Join(dir, "dra_manager_state"), fmt.Appendf(nil,
		`{"Data":"{\"kind\":\"DRACheckpoint\",\"ClaimInfoStateList\":[{\"ClaimName\":\"c\",\"Namespace\":\"ns1\",\"PodUIDs\":{\"%s\":{}}}]}","Checksum":1}`, uid), 0o600))
}

func result(request, device string) string {
	return `{"request":"` + request + `","driver":"d","pool":"node-a","device":"` + device + `"}`
}

// vfConfig is configuration of a request.
func vfConfig(request, members string) string {
	return `{"source":"FromClaim","requests":["` + request + `"],"opaque":{"driver":"d","parameters":{"apiVersion":"sriovnetwork.k8snetworkplumbingwg.io/v1alpha1","kind":"VfConfig",` + members + `}}}`
}

// attached are calls as "ifname network device".
func attached(t *testing.T, calls []invocation) []string {
	t.Helper()
	var out []string
	for _, c := range calls {
		out = append(out, strings.TrimSpace(c.Ifname+" "+strings.Trim(c.member(t, "name"), `"`)+" "+strings.Trim(c.member(t, "deviceID"), `"`)))
	}
	return out
}

// The configuration of a claim attaches networks of its devices, with and without
// annotations.
func TestNetworksOfClaims(t *testing.T) {
	t.Parallel()
	blue := vfConfig("r", `"netAttachDefName":"blue"`)
	for name, tc := range map[string]struct {
		results, config, annotation string
		want                        []string
	}{
		"one":                            {result("r", "vf-3"), blue, "", []string{"eth0 dflt", "net1 blue 0000:01:00.3"}},
		"driver and interface":           {result("r", "vf-3"), vfConfig("r", `"netAttachDefName":"blue","ifName":"data0","driver":"vfio-pci"`), "", []string{"eth0 dflt", "data0 blue 0000:01:00.3"}},
		"another namespace":              {result("r", "vf-3"), vfConfig("r", `"netAttachDefName":"far","netAttachDefNamespace":"other"`), "", []string{"eth0 dflt", "net1 far 0000:01:00.3"}},
		"two of a request":               {result("r", "vf-4") + "," + result("r", "vf-2"), blue, "", []string{"eth0 dflt", "net1 blue 0000:01:00.4", "net2 blue 0000:01:00.2"}},
		"no network asked for":           {result("r", "vf-3"), vfConfig("r", `"driver":"vfio-pci"`), "", []string{"eth0 dflt"}},
		"another kind of device":         {result("g", "gpu") + "," + result("r", "vf-3"), blue, "", []string{"eth0 dflt", "net1 blue 0000:01:00.3"}},
		"known by its PCI attribute":     {result("r", "nic"), vfConfig("r", `"netAttachDefName":"red"`), "", []string{"eth0 dflt", "net1 red 0000:01:00.7"}},
		"beside the annotation":          {result("r", "vf-3"), blue, "red", []string{"eth0 dflt", "net1 red", "net2 blue 0000:01:00.3"}},
		"the annotation says more of it": {result("r", "vf-3"), blue, `[{"name":"blue","interface":"x","ips":["10.0.0.9/24"]}]`, []string{"eth0 dflt", "x blue 0000:01:00.3"}},
		"one of two":                     {result("r", "vf-2") + "," + result("s", "vf-3"), vfConfig("s", `"netAttachDefName":"blue"`), "green", []string{"eth0 dflt", "net1 green 0000:01:00.2", "net2 blue 0000:01:00.3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.detect()
			e.kubelet(&kubelet{claims: []string{"c"}})
			e.conf["statusFailure"] = "strict" // else nobody waits for it longer than two seconds
			e.claims(tc.results, tc.config)
			e.withResource(podNS, "blue")
			e.withResource(podNS, "green")
			e.nad("red", "")
			e.api.PutNAD("other", "far", `{"type":"recorder"}`, nil)
			if tc.annotation != "" {
				e.networks(tc.annotation)
			}
			e.must("ADD")
			calls := e.calls()
			assert.Equal(t, tc.want, attached(t, calls))
			if strings.Contains(tc.annotation, "ips") {
				assert.Contains(t, calls[1].member(t, "runtimeConfig"), `"ips":["10.0.0.9/24"]`)
			}
			assert.Len(t, e.status(), len(tc.want))
			e.must("DEL")
			assert.Len(t, e.calls(), len(tc.want))
			assert.Empty(t, e.leftovers())
		})
	}
}

// A runtime that passes no UID: any pod may be the one with claims.
func TestNetworksOfClaimsWithoutUID(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.claims(result("r", "vf-3"), vfConfig("r", `"netAttachDefName":"blue"`))
	e.nad("blue", "")
	e.args = strings.TrimSuffix(e.args, ";K8S_POD_UID="+podUID)
	e.must("ADD")
	assert.Equal(t, []string{"eth0 dflt", "net1 blue 0000:01:00.3"}, attached(t, e.calls()))
}

// Runtimes that pass no annotations: the pod is read anyway.
func TestNetworksOfClaimsWithoutAnnotationsOfTheRuntime(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.claims(result("r", "vf-3"), vfConfig("r", `"netAttachDefName":"blue"`))
	e.prepared("another")
	e.nad("blue", "")
	e.annotations = nil
	e.conf["statusPolicy"] = "annotated"
	e.must("ADD")
	assert.Equal(t, []string{"eth0 dflt", "net1 blue 0000:01:00.3"}, attached(t, e.calls()))
	assert.Equal(t, []string{"GET pod1", "GET c", "GET resourceslices", "GET blue", "PATCH status"}, e.asked())
}

// A list of the kubelet's that has the form of none does not tell that a pod has no claims.
func TestListOfClaimsThatTellsNothing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		asks bool
	}{
		"empty object": {`{}`, true},
		"null":         {`null`, true},
		"empty file":   {``, true},
		"cut":          {`{"Data":"{\"kind\":\"DRACheckpoint\",\"ClaimInfoStateList\":[{\"Cl`, true},
		"none":         {`{"Data":"{\"kind\":\"DRACheckpoint\",\"ClaimInfoStateList\":null}","Checksum":1}`, false},
		"none of 1.31": {`{"version":"v1","checksum":1}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.claims(result("r", "vf-3"), vfConfig("r", `"netAttachDefName":"blue"`))
			e.nad("blue", "")
			require.NoError(t, os.WriteFile(filepath.Join(e.conf["kubeletDir"].(string), "dra_manager_state"), []byte(tc.text), 0o600))
			e.must("ADD")
			want := []string{"eth0 dflt"}
			if tc.asks {
				want = append(want, "net1 blue 0000:01:00.3")
			}
			assert.Equal(t, want, attached(t, e.calls()))
		})
	}
}

func TestPodsWithoutClaimsCostNothingMore(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(e *env){
		"no kubelet with claims": func(*env) {},
		"claims of another pod":  func(e *env) { e.prepared("uid-2") },
		"no claim, no UID": func(e *env) {
			e.prepared("uid-2")
			state := filepath.Join(e.conf["kubeletDir"].(string), "dra_manager_state")
			require.NoError(e.t, os.WriteFile(state, []byte(`{"Data":"{\"kind\":\"DRACheckpoint\",\"ClaimInfoStateList\":[]}","Checksum":1}`), 0o600))
			e.args = strings.TrimSuffix(e.args, ";K8S_POD_UID="+podUID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			prepare(e)
			e.conf["statusFailure"] = "strict" // else nobody waits for it longer than two seconds
			e.must("ADD")
			assert.Equal(t, []string{"PATCH status"}, e.asked())
			e.must("DEL")
			e.api.Forget()
			e.nad("neta", "")
			e.networks("neta")
			e.must("ADD")
			assert.Equal(t, []string{"GET neta", "PATCH status"}, e.asked())
		})
	}
}

// Errors name claim, request and network; what is not known fails the pod for now.
func TestNetworksOfClaimsThatCannotBe(t *testing.T) {
	t.Parallel()
	blue := vfConfig("r", `"netAttachDefName":"blue"`)
	for name, tc := range map[string]struct {
		results, config string
		change          func(e *env)
		code            uint
		want            []string
		event           string
	}{
		"no such NAD": {result("r", "vf-3"), vfConfig("r", `"netAttachDefName":"none"`), nil, types.ErrInvalidNetworkConfig,
			[]string{"claim ns1/c, request r: ", "network-attachment-definition ns1/none"}, "NoNetworkFound"},
		"no such NAD elsewhere": {result("r/small", "vf-3"), vfConfig("r", `"netAttachDefName":"none","netAttachDefNamespace":"other"`), nil, types.ErrInvalidNetworkConfig,
			[]string{"claim ns1/c, request r/small: ", "network-attachment-definition other/none"}, "NoNetworkFound"},
		"a NAD that is none": {result("r", "vf-3"), blue, func(e *env) { e.api.PutNAD(podNS, "blue", `{`, nil) }, types.ErrInvalidNetworkConfig,
			[]string{"claim ns1/c, request r: ", "network-attachment-definition ns1/blue"}, "InvalidNetworks"},
		"isolation": {result("r", "vf-3"), vfConfig("r", `"netAttachDefName":"far","netAttachDefNamespace":"other"`), func(e *env) { e.conf["namespaceIsolation"] = true }, types.ErrInvalidNetworkConfig,
			[]string{"claim ns1/c, request r: ", "namespaceIsolation"}, "InvalidNetworks"},
		"a device that says no ID": {result("r", "gpu"), blue, nil, types.ErrInvalidNetworkConfig,
			[]string{"claim ns1/c, request r: network ns1/blue", "device gpu", "k8s.cni.cncf.io/deviceID"}, "InvalidNetworks"},
		"a device that is not published": {result("r", "vf-9"), blue, nil, types.ErrTryAgainLater,
			[]string{"claim ns1/c, request r: network ns1/blue", "device vf-9", "no ResourceSlice of driver d"}, ""},
		"too many": {result("r", "vf-3") + "," + result("r", "vf-2"), blue, func(e *env) { e.conf["maxNetworks"] = 1 }, types.ErrInvalidNetworkConfig,
			[]string{"2 networks are more than the 1"}, "InvalidNetworks"},
		"a claim that is gone": {"", "", func(e *env) { e.api.Delete("/apis/resource.k8s.io/v1/namespaces/ns1/resourceclaims/c") }, types.ErrTryAgainLater,
			[]string{"resourceclaim ns1/c"}, ""},
		"an answer that is no claim": {"", "", func(e *env) { e.api.Put("/apis/resource.k8s.io/v1/namespaces/ns1/resourceclaims/c", `{}`) }, types.ErrTryAgainLater,
			[]string{"resourceclaim: asked for ns1/c"}, ""},
		"a claim that is not allocated": {"", "", func(e *env) {
			e.api.Put("/apis/resource.k8s.io/v1/namespaces/ns1/resourceclaims/c", `{"metadata":{"namespace":"ns1","name":"c"}}`)
		}, types.ErrTryAgainLater, []string{"resourceclaim ns1/c is not allocated"}, ""},
		"another pod of the name": {result("r", "vf-3"), blue, func(e *env) { e.api.PutPod(podNS, podName, "uid-9", nil) }, types.ErrTryAgainLater,
			[]string{"the pod was replaced"}, ""},
		"a device less than networks": {result("r", "vf-3"), blue, func(e *env) { e.networks("green") }, types.ErrInvalidNetworkConfig,
			[]string{"network ns1/green", "the pod has 1", "each of the 2 networks"}, "InvalidNetworks"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.claims(tc.results, tc.config)
			e.withResource(podNS, "blue")
			e.withResource(podNS, "green")
			if tc.change != nil {
				tc.change(e)
			}
			dir := filepath.Join(e.dir, "kubelet", "device-plugins")
			require.NoError(t, os.MkdirAll(dir, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "kubelet_internal_checkpoint"), []byte(`{"Data":{"PodDeviceEntries":null}}`), 0o600))
			out := e.mustFail("ADD", tc.code, tc.want[0])
			for _, text := range tc.want {
				assert.Contains(t, out.Err.Msg, text)
			}
			assert.Empty(t, e.calls())
			var events []string
			for _, r := range e.api.Requests() {
				if r.Method == "POST" {
					events = append(events, r.Body)
				}
			}
			if tc.event == "" {
				assert.Empty(t, events)
				return
			}
			require.Len(t, events, 1)
			assert.Contains(t, events[0], `"reason":"`+tc.event+`"`)
			for _, text := range tc.want {
				assert.Contains(t, events[0], text)
			}
		})
	}
}
