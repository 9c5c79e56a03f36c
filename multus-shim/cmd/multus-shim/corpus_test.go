// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// sample is a NAD with a pod that uses it, as other projects document them.
type sample struct {
	Name      string
	Object    string         // name of the NAD, "net" by default
	NAD       map[string]any // spec.config
	AsWritten map[string]any // what plugins read of it, where that differs
	Pod       string         // annotation k8s.v1.cni.cncf.io/networks
	Resource  string         // of the NAD
	Devices   []string       // that the kubelet gave to the pod
	Kubelet   bool           // a kubelet that gave none
	Version   string         // that plugins are told, where the NAD names several
	Ifname    string         // of the first network, "net1" by default
	Networks  int            // how many the pod selects, 1 by default
	Adds      []map[string]any
	Args      map[string]string // CNI_ARGS beside those of the runtime
	Refused   string            // reason, "" for accepted
}

// plugins are the members that each plugin reads: those of the NAD, the network's
// name and version, and what is added.
func (s sample) plugins() []map[string]any {
	config := s.NAD
	if s.AsWritten != nil {
		config = s.AsWritten
	}
	list, isList := config["plugins"].([]any)
	if !isList {
		list = []any{config}
	}
	name, version := any(s.Object), any("0.1.0")
	if v, ok := config["name"]; ok {
		name = v
	}
	if v, ok := config["cniVersion"]; ok {
		version = v
	}
	if s.Version != "" {
		version = s.Version
	}
	var out []map[string]any
	for i, p := range list {
		want := maps.Clone(p.(map[string]any))
		want["name"], want["cniVersion"] = name, version
		if i < len(s.Adds) {
			maps.Copy(want, s.Adds[i])
		}
		out = append(out, want)
	}
	return out
}

// TestCorpus holds what people run: each delegate gets exactly the members that it
// must, and what is refused is refused for the reason that is given here.
func TestCorpus(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/corpus/*.yaml")
	require.NoError(t, err)
	samples, refused := 0, 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		var list []sample
		require.NoError(t, yaml.UnmarshalStrict(data, &list), file)
		for _, s := range list {
			samples++
			if s.Refused != "" {
				refused++
			}
			if s.Object == "" {
				s.Object = "net"
			}
			t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml")+"/"+s.Name, func(t *testing.T) {
				t.Parallel()
				s.check(t)
			})
		}
	}
	assert.GreaterOrEqual(t, samples, 100)
	t.Logf("%d samples, %d of them refused", samples, refused)
}

func (s sample) check(t *testing.T) {
	e := newEnv(t)
	if s.Devices != nil || s.Kubelet {
		e.kubelet(&kubelet{devices: s.Devices, resource: s.Resource})
	}
	config, err := json.Marshal(s.NAD)
	require.NoError(t, err)
	annotations := map[string]string{}
	if s.Resource != "" {
		annotations["k8s.v1.cni.cncf.io/resourceName"] = s.Resource
	}
	e.api.PutNAD(podNS, s.Object, string(config), annotations)
	e.networks(s.Pod)
	if s.Refused != "" {
		e.mustFail("ADD", types.ErrInvalidNetworkConfig, s.Refused)
		assert.Empty(t, e.calls(), "before anything runs")
		return
	}
	for _, p := range s.plugins() {
		link := filepath.Join(e.dir, "bin", p["type"].(string))
		if _, err := os.Lstat(link); err != nil {
			require.NoError(t, os.Symlink(recorder, link))
		}
	}
	e.must("ADD")
	calls := e.calls()[1:] // without the default network
	want := s.plugins()
	require.Len(t, calls, len(want)*max(s.Networks, 1))
	for i, w := range want {
		assert.Equal(t, cmp.Or(s.Ifname, "net1"), calls[i].Ifname)
		var got map[string]any
		require.NoError(t, json.Unmarshal([]byte(calls[i].Stdin), &got))
		delete(got, "prevResult") // of the plugin before
		assert.Equal(t, roundTrip(t, w), got)
		assert.NotContains(t, calls[i].Stdin, ".0e+") // numbers keep their digits
		for key, value := range s.Args {
			assert.Contains(t, ";"+calls[i].Args+";", ";"+key+"="+value+";")
		}
		if s.Args == nil {
			assert.Equal(t, e.args, calls[i].Args)
		}
	}
	e.must("DEL")
	assert.Empty(t, e.leftovers())
}

// roundTrip gives the values the types that encoding/json gives them.
func roundTrip(t *testing.T, v any) map[string]any {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	var out map[string]any
	require.NoError(t, json.Unmarshal(data, &out))
	return out
}
