// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Names in CNI_ARGS become parts of request paths.
func TestPodNamesThatLeadElsewhere(t *testing.T) {
	t.Parallel()
	for _, pod := range [][2]string{
		{"..", "secrets"}, {"ns1", ".."}, {"ns1", "../../secrets/x"}, {".", "."}, {"ns1", "."}, {"ns1/pods", "x"}, {"ns1", "a?watch=true"}, {"NS", "a"}, {"ns1", "a b"}, {"ns1", "pod1%2f.."},
	} {
		e := newEnv(t)
		e.annotations = nil
		e.args = "K8S_POD_NAMESPACE=" + pod[0] + ";K8S_POD_NAME=" + pod[1] + ";K8S_POD_UID=u"
		e.mustFail("ADD", types.ErrInvalidEnvironmentVariables, "CNI_ARGS: K8S_POD_NAME")
		assert.Empty(t, e.api.Requests())
		e.must("DEL")
		assert.Empty(t, e.api.Requests())
	}
}

// Files are named after network, container and interface. Where that is too long for a
// file, nothing is started, and nothing is left that could not be detached.
func TestNamesTooLongForAFile(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cniName string
		members string
		fails   string
	}{
		"just fits":           {cniName: strings.Repeat("n", 255-len("-c1-net1"))},
		"a byte more":         {cniName: strings.Repeat("n", 256-len("-c1-net1")), fails: "network ns1/neta: the configuration's name has 248 bytes, at most 247"},
		"much more":           {cniName: strings.Repeat("n", 5000), fails: "network ns1/neta: the configuration's name has 5000 bytes"},
		"device info of that": {cniName: strings.Repeat("n", 300), members: `,"capabilities":{"CNIDeviceInfoFile":true}`, fails: "network ns1/neta: the configuration's name has 300 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.api.PutNAD(podNS, "neta", `{"cniVersion":"1.1.0","name":"`+tc.cniName+`","type":"recorder"`+tc.members+`}`, nil)
			e.networks("neta")
			if tc.fails != "" {
				e.mustFail("ADD", types.ErrInvalidNetworkConfig, tc.fails)
				assert.Empty(t, e.calls(), "nothing was started")
			} else {
				e.must("ADD")
			}
			e.must("DEL")
			assert.Empty(t, e.leftovers())
		})
	}
}

// A record of before, whose attachment never had a file, is detached.
func TestDelOfANameTooLongForAFile(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.must("ADD")
	e.calls()
	data, err := os.ReadFile(e.recordPath())
	require.NoError(t, err)
	long := strings.Replace(string(data), `"name":"netb"`, `"deviceInfo":"/nonexistent/`+strings.Repeat("d", 300)+`","name":"`+strings.Repeat("n", 300)+`"`, 1)
	require.NotEqual(t, string(data), long)
	require.NoError(t, os.WriteFile(e.recordPath(), []byte(long), 0o600))
	e.must("DEL")
	assert.Equal(t, []string{"DEL net2", "DEL net1", "DEL eth0"}, names(e.calls()))
	assert.NoFileExists(t, e.recordPath())
}

// A network does not say what belongs to the runtime, nor which device its pod gets.
func TestMembersThatANetworkMayNotBring(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.kubelet(&kubelet{devices: []string{"0000:01:00.1"}})
	e.api.PutNAD(podNS, "neta", `{"cniVersion":"1.1.0","Type":"recorder","Capabilities":{"mac":true},"prevResult":{"ips":[null]},"RuntimeConfig":{"mac":"02:00:00:00:00:66"},
		"runtimeconfig":{"ips":["10.0.0.66"]},"DEVICEID":"0000:03:02.5","pcibusid":"0000:03:02.5","cni.dev/valid-attachments":[],"CNI.DEV/attachments":[]}`,
		map[string]string{"k8s.v1.cni.cncf.io/resourceName": "example.com/vf"})
	e.networks("neta")
	e.must("ADD")
	e.conf["cni.dev/valid-attachments"] = []map[string]string{{"containerID": "c1", "ifname": "eth0"}}
	e.must("GC")
	delete(e.conf, "cni.dev/valid-attachments")
	e.must("DEL")
	for _, c := range e.calls() {
		if c.Ifname != "net1" && c.Command != "GC" {
			continue
		}
		lower := strings.ToLower(c.Stdin)
		assert.NotContains(t, lower, "0000:03:02.5", c.Command)
		assert.NotContains(t, lower, "02:00:00:00:00:66", c.Command)
		assert.NotContains(t, lower, "10.0.0.66", c.Command)
		assert.NotContains(t, lower, "null", c.Command)
		assert.LessOrEqual(t, strings.Count(lower, `"prevresult"`), 1, c.Command)
		assert.LessOrEqual(t, strings.Count(lower, `"cni.dev/valid-attachments"`), 1, c.Command)
		if c.Command == "ADD" {
			assert.Equal(t, `"0000:01:00.1"`, c.member(t, "deviceID"))
			assert.Empty(t, c.member(t, "prevResult"))
			assert.Empty(t, c.member(t, "runtimeConfig"))
		}
	}
}

func TestDeviceOfAnotherPod(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.kubelet(&kubelet{devices: []string{"0000:01:00.1"}})
	e.nad("neta", allCaps)
	for _, key := range []string{"deviceID", "DEVICEID", "DeviceId"} {
		e.networks(`[{"name":"neta","` + key + `":"0000:03:02.5"}]`)
		e.mustFail("ADD", types.ErrInvalidNetworkConfig, `deviceID "0000:03:02.5": this device was not given to the pod`)
	}
	assert.Empty(t, e.calls())
	e.networks(`[{"name":"neta","deviceID":"0000:01:00.1"}]`)
	e.must("ADD")
	assert.Contains(t, e.calls()[1].member(t, "runtimeConfig"), `"deviceID":"0000:01:00.1"`)
	e.must("DEL")
	e.conf["deviceIDs"] = "any"
	e.networks(`[{"name":"neta","deviceID":"0000:03:02.5"}]`)
	e.must("ADD")
}

// Pointers in foreign JSON are not followed unseen, in any version.
func TestNullsInResults(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		e := newEnv(t)
		for _, members := range []string{
			`"ips":[null]`, `"interfaces":[null]`, `"routes":[null]`, `"IPs":[null]`, `"ips":null,"interfaces":null,"routes":null`, `"ip4":null`,
			`"ip4":{"ip":"10.0.0.1/24","routes":[null]}`, `"ip6":{"routes":null}`, `"dns":null`, `"ips":[{}]`, `"interfaces":[{}]`, `"ips":[{"interface":7}]`, `"ips":[{"interface":-1,"address":"10.0.0.1/24"}]`,
		} {
			e.delegate(`{"name":"dflt","type":"recorder","cniVersion":"` + version + `","test":{"stdout":{"ADD":` +
				string(mustJSON(`{"cniVersion":"`+version+`",`+members+`}`)) + `}}}`)
			out := e.run("ADD") // run demands one JSON document and exit code 1 or 0
			if out.Err != nil {
				assert.NotContains(t, out.Stderr, "panic")
			}
			e.must("DEL")
		}
	}
}

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// A token that is not known any more passes; it is not the user's mistake.
func TestUnauthorized(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.nad("neta", "")
	e.networks("neta")
	e.api.RotateServer("another")
	e.mustFail("ADD", types.ErrTryAgainLater, "401 Unauthorized")
	assert.NotContains(t, e.asked(), "POST events")
}

// A plugin that delegates is told by a tenant's network to run multus-shim, with the
// tenant's configuration as the node's own: a log file anywhere, programs of any directory.
func TestNetworkThatLeadsBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	evil := filepath.Join(e.dir, "evil")
	require.NoError(t, os.Mkdir(evil, 0o755))
	ran := filepath.Join(evil, "ran")
	require.NoError(t, os.WriteFile(filepath.Join(evil, "evil"), []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755))
	e.nad("back", fmt.Sprintf(`"test":{"Runs":"multus-shim"},"ipam":{"type":"multus-shim"},"binDir":%q,"logFile":%q,"cniDir":%q,"delegates":[{"cniVersion":"1.0.0","name":"x","type":"evil"}]`,
		evil, filepath.Join(evil, "log"), filepath.Join(evil, "state")))
	e.networks("back")
	e.mustFail("ADD", 7, "leads back to the meta plugin")
	e.must("DEL")
	for _, name := range []string{"ran", "log", "state"} {
		require.NoFileExists(t, filepath.Join(evil, name))
		require.NoDirExists(t, filepath.Join(evil, name))
	}
}
