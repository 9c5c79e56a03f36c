// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

func TestAddWithoutSelection(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	out := e.must("ADD")
	assert.Equal(t, []string{"ADD eth0"}, names(e.calls()))
	assert.Equal(t, []string{"PATCH status"}, e.asked(), "the runtime passed the annotations: no GET")
	assert.JSONEq(t, `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"`+e.netns+`"}]}`, out.Stdout)
}

func TestDefaultNetworkNeedsNoAPI(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.api.Stop()
	e.must("ADD")
	e.must("DEL")
	assert.Equal(t, []string{"ADD eth0", "DEL eth0"}, names(e.calls()))
	assert.Empty(t, e.leftovers())
}

func TestAddTwoNetworks(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.detect()
	e.nad("neta", "")
	e.nad("netb", "")
	e.networks("neta,netb")
	e.must("ADD")
	assert.Equal(t, []string{"ADD eth0", "ADD net1", "ADD net2"}, names(e.calls()))
	assert.ElementsMatch(t, []string{"GET neta", "GET netb", "PATCH status"}, e.asked())
	sessions := map[string]bool{}
	for _, r := range e.api.Requests() {
		sessions[r.Remote] = true
	}
	assert.Len(t, sessions, 1, "one connection carries everything")
	status := e.status()
	require.Len(t, status, 3)
	assert.Equal(t, []any{"dflt", "ns1/neta", "ns1/netb"}, []any{status[0]["name"], status[1]["name"], status[2]["name"]})
	assert.Equal(t, []any{true, false, false}, []any{status[0]["default"], status[1]["default"], status[2]["default"]})

	e.must("DEL")
	assert.Equal(t, []string{"DEL net2", "DEL net1", "DEL eth0"}, names(e.calls()))
	assert.Empty(t, e.leftovers())
}

func TestNamespaceAndInterfaceOfASelection(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.api.PutNAD("ns2", "neta", `{"type":"recorder"}`, nil)
	e.networks("ns2/neta@foo0")
	e.must("ADD")
	assert.Equal(t, []string{"ADD eth0", "ADD foo0"}, names(e.calls()))
	assert.Equal(t, "/apis/k8s.cni.cncf.io/v1/namespaces/ns2/network-attachment-definitions/neta", e.api.Requests()[0].Path)
}

const fullSelection = `[{"name":"neta","ips":["10.1.0.2/24"],"mac":"02:00:00:00:00:07","infiniband-guid":"02:00:00:00:00:00:00:07",
	"portMappings":[{"hostPort":8080,"containerPort":80}],"bandwidth":{"ingressRate":1000,"ingressBurst":2000},"deviceID":"0000:01:00.1"}]`

func TestRuntimeConfigOfASelectionInAddAndDel(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.nad("neta", allCaps)
	e.networks(fullSelection)
	e.must("ADD")
	e.must("DEL")
	calls := e.calls()
	require.Equal(t, []string{"ADD eth0", "ADD net1", "DEL net1", "DEL eth0"}, names(calls))
	want := `{"ips":["10.1.0.2/24"],"mac":"02:00:00:00:00:07","infinibandGUID":"02:00:00:00:00:00:00:07",
		"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}],"bandwidth":{"ingressRate":1000,"ingressBurst":2000},
		"deviceID":"0000:01:00.1","CNIDeviceInfoFile":"` + e.dir + `/devinfo/cni/ns1-neta-c1_net1"}`
	assert.JSONEq(t, want, calls[1].member(t, "runtimeConfig"))
	assert.JSONEq(t, want, calls[2].member(t, "runtimeConfig"))
	assert.Equal(t, calls[1].Args, calls[2].Args)
	assert.Empty(t, calls[0].member(t, "runtimeConfig"))
}

func TestRequestWithoutCapabilityFailsBeforeAnythingRuns(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.nad("neta", "")
	e.networks(fullSelection)
	e.conf["capabilityCheck"] = "strict"
	e.mustFail("ADD", types.ErrInvalidNetworkConfig, "network ns1/neta: bandwidth, infinibandGUID, ips, mac, portMappings asked for")
	assert.Empty(t, e.calls())

	delete(e.conf, "capabilityCheck")
	out := e.must("ADD")
	assert.Contains(t, out.Stderr, "no plugin of it declares the capability")
}

func TestRuntimeConfigOfTheRuntime(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.delegate(`{"name":"dflt","type":"recorder","capabilities":{"portMappings":true,"mac":true,"vendor.io/key":true}}`)
	e.nad("neta", allCaps)
	e.networks("neta")
	out := e.exec("ADD", e.stdin(map[string]any{
		"portMappings": []any{map[string]any{"hostPort": 1}}, "mac": "02:00:00:00:00:09", "vendor.io/key": map[string]any{"x": 1}, "dns": 1,
	}))
	require.Nil(t, out.Err)
	calls := e.calls()
	assert.JSONEq(t, `{"portMappings":[{"hostPort":1}],"mac":"02:00:00:00:00:09","vendor.io/key":{"x":1}}`, calls[0].member(t, "runtimeConfig"),
		"known and unknown keys, if declared")
	assert.JSONEq(t, `{"CNIDeviceInfoFile":"`+e.dir+`/devinfo/cni/ns1-neta-c1_net1"}`, calls[1].member(t, "runtimeConfig"),
		"nothing of the runtime's in the pod's second network")
}

func TestInterfaceNames(t *testing.T) {
	t.Parallel()
	t.Run("automatic names avoid requested ones", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.nad("neta", "")
		e.networks("neta@net2,neta")
		e.must("ADD")
		assert.Equal(t, []string{"ADD eth0", "ADD net2", "ADD net3"}, names(e.calls()))
	})
	t.Run("that of the default network", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.nad("neta", "")
		e.networks("neta@eth0")
		e.mustFail("ADD", types.ErrInvalidNetworkConfig, `interface "eth0" is already that of network dflt`)
		assert.Empty(t, e.calls(), "neither an ADD nor a DEL")
	})
	t.Run("one that exists in the pod", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.nad("neta", "")
		e.networks("neta@lo")
		e.mustFail("ADD", types.ErrInvalidNetworkConfig, "interface lo exists in the pod already")
		assert.Empty(t, e.calls())
	})
	t.Run("automatic names avoid those of the pod", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		ns, err := netns.GetFromPath(e.netns)
		require.NoError(t, err)
		h, err := netlink.NewHandleAt(ns)
		require.NoError(t, err)
		require.NoError(t, h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "net1"}, PeerName: "net3"}))
		e.nad("neta", "")
		e.networks("neta,neta,neta")
		e.must("ADD")
		assert.Equal(t, []string{"ADD eth0", "ADD net2", "ADD net4", "ADD net5"}, names(e.calls()))
	})
	t.Run("one network twice", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.nad("neta", "")
		e.networks("neta,neta")
		e.must("ADD")
		assert.Equal(t, []string{"ADD eth0", "ADD net1", "ADD net2"}, names(e.calls()))
		assert.Len(t, e.status(), 3)
		assert.ElementsMatch(t, []string{"GET neta", "PATCH status"}, e.asked(), "its NAD is read once")
	})
}

func TestMissingNAD(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.networks("gone")
	e.mustFail("ADD", types.ErrInvalidNetworkConfig, "network-attachment-definition ns1/gone")
	assert.Empty(t, e.calls())
	assert.Empty(t, e.leftovers())
	requests := e.api.Requests()
	event := requests[len(requests)-1]
	require.Equal(t, "POST /api/v1/namespaces/ns1/events", event.String())
	assert.Contains(t, event.Body, `"NoNetworkFound"`)
	assert.Contains(t, event.Body, `"Warning"`)
	assert.Contains(t, event.Body, "ns1/gone")
}

func TestEventsOfSuccess(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.conf["events"] = "all"
	e.nad("neta", "")
	e.networks("neta")
	e.must("ADD")
	assert.Equal(t, []string{"GET neta", "PATCH status", "POST events", "POST events"}, e.asked())
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	selection := func(members string) string { return `[{"name":"neta",` + members + `}]` }
	for name, value := range map[string]string{
		"null element": `[null]`, "object": `{}`, "string": `"x"`, "no name": `[{}]`, "trailing comma": `neta,`, "blank": " ",
		"1 MiB": strings.Repeat("n", 1<<20),
		"slash": selection(`"interface":"a/b"`), "16 characters": selection(`"interface":"abcdefghijklmnop"`),
		"mac": selection(`"mac":"zz"`), "mac of 8 bytes": selection(`"mac":"02:00:00:00:00:00:00:07"`),
		"guid":       selection(`"infiniband-guid":"02:00:00:00:00:07"`),
		"port 0":     selection(`"portMappings":[{"hostPort":0,"containerPort":1}]`),
		"port 70000": selection(`"portMappings":[{"hostPort":1,"containerPort":70000}]`),
		"protocol":   selection(`"portMappings":[{"hostPort":1,"containerPort":1,"protocol":"icmp"}]`),
		"burst":      selection(`"bandwidth":{"ingressBurst":1}`), "two spellings": selection(`"ips":["10.0.0.1"],"IPs":["10.0.0.2"]`),
		"nested":      selection(`"cni-args":` + strings.Repeat(`{"a":`, 20000) + `1` + strings.Repeat(`}`, 20000)),
		"65 networks": strings.Repeat("neta,", 64) + "neta", "40000 networks": strings.Repeat("neta,", 39999) + "neta",
	} {
		t.Run("selection: "+name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.nad("neta", allCaps)
			// Through the API: no environment or pipe limits the size.
			e.annotations = nil
			e.api.PutPod(podNS, podName, podUID, map[string]string{"k8s.v1.cni.cncf.io/networks": value})
			e.mustFail("ADD", types.ErrInvalidNetworkConfig, "annotation k8s.v1.cni.cncf.io/networks: ")
			assert.Empty(t, e.calls())
		})
	}
	for name, config := range map[string]string{
		"no plugins": `{"plugins":[]}`, "null plugin": `{"plugins":[null]}`, "null": `null`, "type": `{"type":7}`,
		"args": `{"type":"recorder","args":"str"}`, "capabilities": `{"type":"recorder","capabilities":"all"}`,
	} {
		t.Run("NAD: "+name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.api.PutNAD(podNS, "neta", config, nil)
			e.networks(selection(`"cni-args":{"a":1}`))
			e.mustFail("ADD", types.ErrInvalidNetworkConfig, "ns1/neta")
			assert.Empty(t, e.calls())
		})
	}
	for name, stdin := range map[string]string{
		"empty": ``, "no default network": `{"name":"n","cniVersion":"1.0.0"}`, "delegates": `{"name":"n","delegates":[null]}`,
		"itself": `{"name":"n","delegates":[{"type":"multus"}]}`,
	} {
		t.Run("configuration: "+name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			require.NotNil(t, e.exec("ADD", []byte(stdin)).Err)
			assert.Empty(t, e.calls())
		})
	}
}

func TestNADByFile(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	dir := e.conf["confDir"].(string)
	require.NoError(t, os.Mkdir(dir, 0o755))
	for name, content := range map[string]string{
		"00-broken.conf": `{`, "10-a.conf": `{"name":"neta","type":"recorder","from":"conf"}`,
		"20-a.conflist": `{"name":"neta","cniVersion":"1.0.0","plugins":[{"type":"recorder","from":"list"}]}`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	e.api.PutNAD(podNS, "neta", "", nil)
	e.networks("neta")
	e.must("ADD")
	assert.Equal(t, `"list"`, e.calls()[1].member(t, "from"), "a list is preferred, a broken neighbour ignored")

	e.container = "c2"
	e.api.PutNAD(podNS, "netb", "", nil)
	e.networks("netb")
	e.mustFail("ADD", types.ErrInvalidNetworkConfig, `network "netb" in`)
}

func TestBytesOfTheConfiguration(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.api.PutNAD(podNS, "neta", `{"zz":12345678901234567890,"type":"recorder","cniVersion":"1.0.0","aa":1.10,"html":"<&>"}`, nil)
	e.networks(`[{"name":"neta","cni-args":{"n":18446744073709551616}}]`)
	e.must("ADD")
	e.must("DEL")
	calls := e.calls()
	want := `{"zz":12345678901234567890,"type":"recorder","cniVersion":"1.0.0","aa":1.10,"html":"<&>","args":{"cni":{"n":18446744073709551616}},"name":"neta"`
	assert.Equal(t, want+`}`, calls[1].Stdin)
	assert.Equal(t, want+`,"prevResult":`+calls[2].member(t, "prevResult")+`}`, calls[2].Stdin, "DEL reads the same bytes")
}

func TestArgumentsOfDelegates(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.nad("neta", allCaps)
	e.networks(`[{"name":"neta","mac":"02:00:00:00:00:07","ips":["10.0.0.1","10.0.0.2"]}]`)
	e.args += ";X=1;X=2;MAC=02:00:00:00:00:01"
	e.must("ADD")
	calls := e.calls()
	const common = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=pod1;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=uid-1;X=2"
	assert.Equal(t, common+";MAC=02:00:00:00:00:01", calls[0].Args)
	assert.Equal(t, common+";IP=10.0.0.1,10.0.0.2;MAC=02:00:00:00:00:07", calls[1].Args)
	assert.Equal(t, filepath.Join(e.dir, "bin"), calls[0].Path, "binDir and CNI_PATH are the same directory")
}

func TestChains(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.api.PutNAD(podNS, "neta", `{"cniVersion":"1.0.0","name":"own","plugins":[{"type":"recorder","n":1},{"type":"recorder","n":2}]}`, nil)
	e.networks("neta")
	e.must("ADD")
	e.must("DEL")
	calls := e.calls()
	require.Equal(t, []string{"ADD eth0", "ADD net1", "ADD net1", "DEL net1", "DEL net1", "DEL eth0"}, names(calls))
	for _, c := range []invocation{calls[1], calls[2], calls[3]} {
		assert.Equal(t, `"own"`, c.member(t, "name"))
		assert.Equal(t, `"1.0.0"`, c.member(t, "cniVersion"))
	}
	assert.Empty(t, calls[1].member(t, "prevResult"))
	assert.NotEmpty(t, calls[2].member(t, "prevResult"))
	assert.Equal(t, []string{"2", "1"}, []string{calls[3].member(t, "n"), calls[4].member(t, "n")}, "backwards")
	assert.Equal(t, calls[3].member(t, "prevResult"), calls[4].member(t, "prevResult"))
}

func TestResultInOurVersion(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.conf["cniVersion"] = "1.0.0"
	e.delegate(`{"name":"dflt","type":"recorder","cniVersion":"0.3.1","test":{"result":{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.0.0.2/24"}]}}}`)
	out := e.must("ADD")
	var result struct{ CNIVersion string }
	require.NoError(t, json.Unmarshal([]byte(out.Stdout), &result))
	assert.Equal(t, "1.0.0", result.CNIVersion)
	assert.NotContains(t, out.Stdout, `"version": "4"`)
}
