// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rule is one statement of a specification and its check against the binary.
// Sections are those of multi-net-spec v1.3, "DI" the Device Information
// specification 1.1, "CNI" the CNI specification 1.1. Where the first says that
// an invalid annotation is ignored, the ADD fails: see package annotation.
type rule struct {
	section, text string
	check         func(t *testing.T)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for group, rules := range map[string][]rule{
		"networks": networkRules, "selection": selectionRules, "selection-network": attachmentRules,
		"status": statusRules, "runtime": runtimeRules, "cni": cniRules,
	} {
		for i, r := range rules {
			t.Run(fmt.Sprintf("%s/%02d %s %s", group, i+1, r.section, r.text), r.check)
		}
	}
}

// selecting is an env whose pod selects with the given value; its NAD neta
// declares all capabilities, and bare none.
func selecting(t *testing.T, value string) *env {
	e := newEnv(t)
	e.nad("neta", allCaps)
	e.nad("bare", "")
	e.networks(value)
	return e
}

// rejects: the ADD fails with code 7, and nothing has run.
func rejects(text string, values ...string) func(*testing.T) {
	return func(t *testing.T) {
		for _, value := range values {
			e := selecting(t, value)
			e.mustFail("ADD", types.ErrInvalidNetworkConfig, text)
			assert.Empty(t, e.calls())
		}
	}
}

// strictly: as rejects, by the choice of the administrator.
func strictly(text, value string) func(*testing.T) {
	return func(t *testing.T) {
		e := selecting(t, value)
		e.conf["capabilityCheck"] = "strict"
		e.mustFail("ADD", types.ErrInvalidNetworkConfig, text)
		assert.Empty(t, e.calls())
	}
}

// added runs an ADD and returns its calls.
func added(t *testing.T, value string) (*env, []invocation) {
	e := selecting(t, value)
	e.must("ADD")
	return e, e.calls()
}

// passes: the second attachment's stdin has the given runtimeConfig member.
func passes(value, member string) func(*testing.T) {
	return func(t *testing.T) {
		_, calls := added(t, value)
		require.Len(t, calls, 2)
		assert.Contains(t, calls[1].member(t, "runtimeConfig"), member)
	}
}

// element is a JSON selection of a NAD with one more member.
func element(nad, member string) string { return `[{"name":"` + nad + `",` + member + `}]` }

var networkRules = []rule{
	{"2.2", "every pod gets the default network first", func(t *testing.T) {
		_, calls := added(t, "neta")
		assert.Equal(t, "ADD eth0", calls[0].String())
	}},
	{"3.1", "the NetworkAttachmentDefinition kind", func(t *testing.T) {
		crd, err := os.ReadFile("../../deploy/crd.yaml")
		require.NoError(t, err)
		for _, want := range []string{"group: k8s.cni.cncf.io", "plural: network-attachment-definitions", "singular: network-attachment-definition",
			"kind: NetworkAttachmentDefinition", "scope: Namespaced", "name: v1"} {
			assert.Contains(t, string(crd), want)
		}
	}},
	{"3.4.1", "spec.config is used when present", func(t *testing.T) {
		e := selecting(t, "neta")
		e.confFile("neta.conf", `{"name":"neta","type":"recorder","from":"file"}`)
		e.must("ADD")
		assert.Empty(t, e.calls()[1].member(t, "from"))
	}},
	{"3.4.1", "else a list by name, then a configuration by name", TestNADByFile},
	{"3.4.1", "else the request fails", func(t *testing.T) {
		e := selecting(t, "empty")
		e.api.PutNAD(podNS, "empty", "", nil)
		e.mustFail("ADD", types.ErrInvalidNetworkConfig, "no CNI configuration")
	}},
	{"3.4.2", "a missing name is the NAD's", func(t *testing.T) {
		_, calls := added(t, "neta")
		assert.Equal(t, `"neta"`, calls[1].member(t, "name"))
	}},
	{"3.3", "NAD names are those of objects", rejects("want the name of an object", "a_b", `[{"name":"A"}]`)},
	{"4.1", "both forms of the annotation", func(t *testing.T) {
		_, short := added(t, "neta")
		_, long := added(t, `[{"name":"neta"}]`)
		assert.Equal(t, names(short), names(long))
	}},
	{"4.1.1", "a bare name is of the pod's namespace, ns/name of that one", TestNamespaceAndInterfaceOfASelection},
	{"4.1.2.1", "keys that are not standard are reverse-domain names: we read none of our own", func(t *testing.T) {
		e := selecting(t, element("neta", `"example.com/x":1,"typo":2`))
		out := e.must("ADD")
		assert.Contains(t, out.Stderr, `unknown key \"typo\"`)
	}},
}

var selectionRules = []rule{
	{"4.1.2.1", "name is required", rejects("name: missing", `[{}]`, `[{"namespace":"ns1"}]`)},
	{"4.1.2.1", "namespace missing or empty is the pod's", func(t *testing.T) {
		e, _ := added(t, `[{"name":"neta"},{"name":"neta","namespace":""}]`)
		assert.Contains(t, e.api.Requests()[0].Path, "/namespaces/ns1/")
	}},
	{"4.1.2.1", "ips has valid addresses; an empty list asks for none", func(t *testing.T) {
		rejects("ips: ", element("neta", `"ips":["x"]`))(t)
		added(t, element("neta", `"ips":[],"portMappings":[],"bandwidth":{}`))
	}},
	{"4.1.2.1", "ips reaches runtimeConfig", passes(element("neta", `"ips":["10.0.0.1/24"]`), `"ips":["10.0.0.1/24"]`)},
	{"4.1.2.1", "ips without the capability fails", strictly("ips asked for", element("bare", `"ips":["10.0.0.1"]`))},
	{"4.1.2.1", "mac has 6 bytes", rejects("mac: ", element("neta", `"mac":"02:00:00:00:00:00:00:01"`))},
	{"4.1.2.1", "mac reaches runtimeConfig", passes(element("neta", `"mac":"02:00:00:00:00:01"`), `"mac":"02:00:00:00:00:01"`)},
	{"4.1.2.1", "mac without the capability fails", strictly("mac asked for", element("bare", `"mac":"02:00:00:00:00:01"`))},
	{"4.1.2.1", "interface is a valid name", rejects("no interface name", element("neta", `"interface":"a:b"`), "neta@sixteen-bytes-xx", element("neta", `"interface":".."`))},
	{"4.1.2.1", "an interface name that is taken fails", func(t *testing.T) {
		rejects("is already that of", "neta@a,neta@a")(t)
		rejects("exists in the pod", "neta@lo")(t)
	}},
	{"4.1.2.1", "interface is CNI_IFNAME", func(t *testing.T) {
		_, calls := added(t, "neta@foo")
		assert.Equal(t, "foo", calls[1].Ifname)
	}},
	{"4.1.2.1", "cni-args are merged over the network's args", func(t *testing.T) {
		e := selecting(t, element("own", `"cni-args":{"a":2,"deep":{"y":2}}`))
		e.nad("own", `"args":{"cni":{"a":1,"b":1,"deep":{"x":1,"y":1}},"other":1}`)
		e.must("ADD")
		assert.Equal(t, `{"cni":{"a":2,"b":1,"deep":{"x":1,"y":2}},"other":1}`, e.calls()[1].member(t, "args"))
	}},
	{"4.1.2.1", "portMappings have valid ports and protocols", func(t *testing.T) {
		rejects("portMappings: ", element("neta", `"portMappings":[{"hostPort":0,"containerPort":1}]`),
			element("neta", `"portMappings":[{"hostPort":1,"containerPort":1,"protocol":"icmp"}]`))(t)
		passes(element("neta", `"portMappings":[{"hostPort":1,"containerPort":2,"protocol":"Sctp"}]`), `"protocol":"sctp"`)(t)
	}},
	{"4.1.2.1", "portMappings reach runtimeConfig", passes(element("neta", `"portMappings":[{"hostPort":1,"containerPort":2}]`),
		`"portMappings":[{"hostPort":1,"containerPort":2,"protocol":"tcp"}]`)},
	{"4.1.2.1", "portMappings without the capability fail", strictly("portMappings asked for", element("bare", `"portMappings":[{"hostPort":1,"containerPort":2}]`))},
	{"4.1.2.1", "bandwidth has a rate, and bursts have theirs", rejects("bandwidth: ", element("neta", `"bandwidth":{"ingressRate":-1}`), element("neta", `"bandwidth":{"egressBurst":1}`))},
	{"4.1.2.1", "bandwidth reaches runtimeConfig, bursts by default", passes(element("neta", `"bandwidth":{"egressRate":7}`),
		`"bandwidth":{"egressRate":7,"egressBurst":2147483647}`)},
	{"4.1.2.1", "bandwidth without the capability fails", strictly("bandwidth asked for", element("bare", `"bandwidth":{"egressRate":7}`))},
	{"4.1.2.1", "default-route on one element at most", rejects("default-route: in elements 1 and 2",
		`[{"name":"neta","default-route":["10.0.0.1"]},{"name":"neta","default-route":["fd00::1"]}]`)},
	{"4.1.2.1", "an empty default-route keeps what the delegate set", TestDefaultRouteOfTheNetworkItself},
	{"4.1.2.1", "default-route takes the route from all others", TestDefaultRouteOfBothFamilies},
	{"4.1.2.1", "several gateways of a family may be ordered: they are refused", rejects("of one family", element("neta", `"default-route":["10.0.0.1","10.0.0.2"]`))},
	{"4.1.2.1", "infiniband-guid has 8 bytes", rejects("infiniband-guid: ", element("neta", `"infiniband-guid":"02:00:00:00:00:01"`))},
	{"4.1.2.1", "infiniband-guid reaches runtimeConfig or fails", func(t *testing.T) {
		const guid = `"infiniband-guid":"02:00:00:00:00:00:00:01"`
		passes(element("neta", guid), `"infinibandGUID":"02:00:00:00:00:00:00:01"`)(t)
		strictly("infinibandGUID asked for", element("bare", guid))(t)
	}},
	{"4.1.2.1", "ipam-claim-reference excludes ips", rejects("excludes ips", element("neta", `"ipam-claim-reference":"c","ips":["10.0.0.1"]`))},
}

var attachmentRules = []rule{
	{"4.2", "one network twice is two attachments", func(t *testing.T) {
		e, calls := added(t, "neta,neta")
		assert.Equal(t, []string{"ADD eth0", "ADD net1", "ADD net2"}, names(calls))
		assert.Len(t, e.status(), 3)
	}},
	{"4.2.1", "generated names are unique in the pod", func(t *testing.T) {
		_, calls := added(t, "neta@net2,neta,neta@net1,neta")
		assert.Equal(t, []string{"ADD eth0", "ADD net2", "ADD net3", "ADD net1", "ADD net4"}, names(calls)[:5])
	}},
	{"4.2.1", "ADD and DEL name the same container, network and interface", func(t *testing.T) {
		e, adds := added(t, "neta,neta@foo")
		e.networks("")
		e.must("DEL")
		dels := e.calls()
		require.Len(t, dels, len(adds))
		for i, a := range adds {
			d := dels[len(dels)-1-i]
			assert.Equal(t, []string{a.Container, a.member(t, "name"), a.Ifname}, []string{d.Container, d.member(t, "name"), d.Ifname})
		}
	}},
	{"6.1", "no configuration before there is a default network", func(t *testing.T) {
		// Package install: TestWaitsForThePrimary. Here: none, no ADD.
		e := newEnv(t)
		delete(e.conf, "delegates")
		e.mustFail("ADD", types.ErrInvalidNetworkConfig, "default network")
	}},
	{"6.1.2", "ADD waits until the default network is ready", TestReadinessFile},
	{"6.2", "the default network before selected ones", func(t *testing.T) {
		_, calls := added(t, "neta")
		assert.Equal(t, []string{"ADD eth0", "ADD net1"}, names(calls))
	}},
	{"7.1", "cniVersion and name in each chained plugin", TestChains},
	{"7.2", "the first failure fails the ADD, later ones are not tried", TestFailedAddIsUndone},
	{"7.2", "all attempted attachments are deleted, whatever fails", TestDelOfOneThatFailsIsRetriedAlone},
	{"7.2", "a detach failure is reported", func(t *testing.T) {
		e := selecting(t, "neta")
		e.nad("neta", `"test":{"fail":{"DEL":5}}`)
		e.must("ADD")
		e.mustFail("DEL", types.ErrIOFailure, "detach network ns1/neta")
	}},
	{"7.3", "attachments of a pod do not run in parallel", TestAddAndDelOfOneContainerAreSerialised},
	{"7.4", "a NAD that is not allowed fails", TestIsolation},
	{"7.5", "the runtime's runtimeConfig stays with the default network", TestRuntimeConfigOfTheRuntime},
	{"8", "IPAM claims are the delegate's: the reference is accepted and not passed", func(t *testing.T) {
		_, calls := added(t, element("neta", `"ipam-claim-reference":"c"`))
		assert.NotContains(t, calls[1].Stdin, `"c"`)
	}},
}

// statusOf is the status of a pod whose default network has the given result.
func statusOf(t *testing.T, result string) map[string]any {
	e := newEnv(t)
	e.delegate(`{"name":"dflt","type":"recorder","cniVersion":"1.0.0","test":{"result":` + result + `}}`)
	e.conf["statusFailure"] = "strict" // else nobody waits for it longer than two seconds
	e.must("ADD")
	return e.status()[0]
}

var statusRules = []rule{
	{"5", "the annotation's name and form", func(t *testing.T) {
		e, _ := added(t, "neta")
		assert.Len(t, e.status(), 2)
	}},
	{"5.1.1", "data of the first interface in the sandbox", func(t *testing.T) {
		s := statusOf(t, `{"interfaces":[{"name":"host"},{"name":"eth0","mac":"02:00:00:00:00:09","sandbox":"/n"},{"name":"b","sandbox":"/n"}]}`)
		assert.Equal(t, []any{"eth0", "02:00:00:00:00:09", true}, []any{s["interface"], s["mac"], s["default"]})
	}},
	{"5.1.1", "an empty result has a minimal entry", func(t *testing.T) {
		assert.Equal(t, map[string]any{"name": "dflt", "default": true, "dns": map[string]any{}}, statusOf(t, `{}`))
	}},
	{"5.1.1", "results before 0.3.0 give what they have", func(t *testing.T) {
		s := statusOf(t, `{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24"},"dns":{"domain":"d"}}`)
		assert.Equal(t, []any{"10.0.0.2"}, s["ips"])
		assert.Equal(t, map[string]any{"domain": "d"}, s["dns"])
	}},
	{"5.2", "the default network has an entry with default true", func(t *testing.T) {
		assert.Equal(t, true, statusOf(t, `{}`)["default"])
	}},
	{"5.3.1", "name carries the namespace", func(t *testing.T) {
		e, _ := added(t, "neta")
		assert.Equal(t, "ns1/neta", e.status()[1]["name"])
	}},
	{"5.3.3", "ips of the sandbox interface, or of none", func(t *testing.T) {
		s := statusOf(t, `{"interfaces":[{"name":"host"},{"name":"eth0","sandbox":"/n"}],
			"ips":[{"interface":0,"address":"10.0.0.1/24"},{"interface":1,"address":"10.0.0.2/24"},{"address":"10.0.0.3/24"}]}`)
		assert.Equal(t, []any{"10.0.0.2", "10.0.0.3"}, s["ips"])
	}},
	{"5.3.4", "mac with an interface only", func(t *testing.T) {
		s := statusOf(t, `{"interfaces":[{"name":"host","mac":"02:00:00:00:00:09"}]}`)
		assert.Nil(t, s["mac"])
	}},
	{"5.3.5", "default is there, and true once", func(t *testing.T) {
		e, _ := added(t, "neta,neta")
		var values []any
		for _, s := range e.status() {
			values = append(values, s["default"])
		}
		assert.Equal(t, []any{true, false, false}, values)
	}},
	{"5.3.6", "dns", func(t *testing.T) {
		s := statusOf(t, `{"dns":{"nameservers":["10.0.0.53"],"domain":"d","search":["s"]}}`)
		assert.Equal(t, map[string]any{"nameservers": []any{"10.0.0.53"}, "domain": "d", "search": []any{"s"}}, s["dns"])
	}},
	{"5.3.6.4", "default-route when it was asked for", TestDefaultRouteOfOneFamily},
	{"5.3.7", "device-info", TestDeviceInfo},
}

var runtimeRules = []rule{
	{"DI 3", "type and version are required", func(t *testing.T) {
		e := newEnv(t)
		e.kubelet(&kubelet{devices: []string{"d"}})
		e.deviceFile(t, "d")
		require.NoError(t, os.WriteFile(filepath.Join(e.dir, "devinfo/dp/example.com-vf-d-device.json"), []byte(`{"pci":{}}`), 0o644))
		e.withResource(podNS, "neta")
		e.networks("neta")
		out := e.must("ADD")
		assert.Contains(t, out.Stderr, "device info left out")
		assert.Nil(t, e.status()[1]["device-info"])
	}},
	{"DI 4.2.1", "a file of its own for each attachment", func(t *testing.T) {
		_, calls := added(t, "neta,neta")
		assert.NotEqual(t, calls[1].member(t, "runtimeConfig"), calls[2].member(t, "runtimeConfig"))
	}},
	{"DI 4.2.1", "a resource's device comes from the kubelet, with its file", TestDeviceInfo},
	{"DI 4.2.1", "the directory is made, the file goes with DEL", func(t *testing.T) {
		e := selecting(t, "neta")
		e.must("ADD")
		assert.DirExists(t, filepath.Join(e.dir, "devinfo", "cni"))
		file := filepath.Join(e.dir, "devinfo", "cni", "ns1-neta-c1_net1")
		require.NoError(t, os.WriteFile(file, []byte(`{}`), 0o600))
		e.must("DEL")
		assert.NoFileExists(t, file)
	}},
	{"DI 5.1.1", "who declares CNIDeviceInfoFile gets the path", passes("neta", `"CNIDeviceInfoFile":`)},
	{"DI 6.1.1", "the file is published after the chain ran", func(t *testing.T) {
		e := newEnv(t)
		// The delegate is not the one that writes here; its file is there
		// when the status is made.
		e.kubelet(&kubelet{devices: []string{"d"}})
		e.deviceFile(t, "d")
		e.withResource(podNS, "neta")
		e.networks("neta")
		e.must("ADD")
		assert.NotNil(t, e.status()[1]["device-info"])
	}},
}

var cniRules = []rule{
	{"CNI", "the result has the configuration's version", TestResultInOurVersion},
	{"CNI", "CHECK verifies what ADD made", TestCheckFindsWhatIsGone},
	{"CNI", "GC passes each network its valid attachments", TestGC},
	{"CNI", "GC goes on after errors", TestGCCollectsErrors},
	{"CNI", "STATUS with the delegate's codes 50 and 51", TestStatus},
	{"CNI", "DEL gets what ADD got, and prevResult", TestRuntimeConfigOfASelectionInAddAndDel},
	{"CNI", "an error is an object with a code, never a crash", TestBadInput},
}
