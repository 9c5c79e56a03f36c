// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/internal/apitest"
)

func (e *env) confPath(name string) string { return filepath.Join(e.dir, "conf", name) }

func (e *env) confFile(name, content string) {
	e.t.Helper()
	require.NoError(e.t, os.MkdirAll(filepath.Dir(e.confPath(name)), 0o755))
	require.NoError(e.t, os.WriteFile(e.confPath(name), []byte(content), 0o644))
}

func TestCheck(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.api.PutNAD(podNS, "netb", `{"cniVersion":"0.3.1","type":"recorder"}`, nil)
	e.must("ADD")
	adds := e.calls()
	e.must("CHECK")
	calls := e.calls()
	require.Equal(t, []string{"CHECK eth0", "CHECK net1"}, names(calls), "netb predates CHECK, which is no error")
	assert.Contains(t, calls[1].member(t, "prevResult"), `"name":"net1"`)
	assert.Equal(t, adds[1].Args, calls[1].Args)

	e.container = "unknown"
	e.mustFail("CHECK", types.ErrUnknownContainer, "nothing is recorded")
}

func TestCheckFindsWhatIsGone(t *testing.T) {
	t.Parallel()
	e := twoNetworks(t)
	e.nad("neta", `"test":{"fail":{"CHECK":8}}`)
	e.must("ADD")
	e.calls()
	e.mustFail("CHECK", types.ErrInvalidNetNS, "network ns1/neta, interface net1")
	assert.Equal(t, []string{"CHECK eth0", "CHECK net1", "CHECK net2"}, names(e.calls()))
}

func TestStatus(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.must("STATUS")
	assert.Equal(t, []string{"STATUS "}, names(e.calls()))
	assert.Empty(t, e.api.Requests())

	for code := range map[uint]bool{types.ErrPluginNotAvailable: true, types.ErrLimitedConnectivity: true} {
		script, err := json.Marshal(map[string]any{"fail": map[string]uint{"STATUS": code}})
		require.NoError(t, err)
		e.delegate(`{"name":"dflt","type":"recorder","cniVersion":"1.1.0","test":` + string(script) + `}`)
		e.mustFail("STATUS", code, "told to fail")
	}
	e.delegate(`{"name":"dflt","type":"not-installed","cniVersion":"0.4.0"}`)
	e.mustFail("STATUS", types.ErrPluginNotAvailable, "not installed")
}

func TestStatusOfOurOwn(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		set  map[string]any
		want string
	}{
		"configuration":   {map[string]any{"statusPolicy": "x"}, "statusPolicy"},
		"default network": {map[string]any{"clusterNetwork": "/does/not/exist"}, "clusterNetwork"},
		"readiness file":  {map[string]any{"readinessindicatorfile": "/does/not/exist"}, "not ready"},
		"kubeconfig":      {map[string]any{"kubeconfig": "/does/not/exist", "statusRequiresAPI": true}, "kubeconfig"},
		"state directory": {map[string]any{"cniDir": "/dev/null/x"}, "cniDir"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			for k, v := range tc.set {
				e.conf[k] = v
			}
			e.mustFail("STATUS", types.ErrPluginNotAvailable, tc.want)
		})
	}
}

func TestStatusMayDependOnTheAPI(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.conf["apiTimeout"] = "6s"
	e.api.Fault(func(w http.ResponseWriter, _ *http.Request) bool {
		apitest.Fail(w, http.StatusServiceUnavailable, "no")
		return true
	})
	e.must("STATUS")
	e.conf["statusRequiresAPI"] = true
	e.mustFail("STATUS", types.ErrPluginNotAvailable, "503")
}

// Pods without further networks start without credentials. A runtime that is told otherwise
// takes the node for not ready, and all its pods are evicted.
func TestStatusWithoutCredentials(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.conf["kubeconfig"] = filepath.Join(e.dir, "gone")
	e.must("STATUS")
	e.must("ADD")
	e.must("DEL")
	require.NoError(t, os.WriteFile(filepath.Join(e.dir, "gone"), []byte("apiVersion: v1\nclusters: [{na"), 0o600))
	e.must("STATUS")
	e.must("ADD")
}

func TestReadinessFile(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.detect()
	file := filepath.Join(e.dir, "run", "deep", "ready")
	e.conf["readinessindicatorfile"] = file
	cmd := e.command("ADD", e.stdin(nil))
	require.NoError(t, cmd.Start())
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, cmd.Wait())
	assert.Equal(t, []string{"ADD eth0"}, names(e.calls()))

	require.NoError(t, os.Remove(file))
	e.must("DEL")
	e.conf["readinessTimeout"] = "100ms"
	e.mustFail("ADD", types.ErrTryAgainLater, "readinessindicatorfile "+file)
	assert.Equal(t, []string{"DEL eth0"}, names(e.calls()))
}

func TestVersion(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	out := e.exec("VERSION", nil)
	require.Nil(t, out.Err)
	var v struct{ SupportedVersions []string }
	require.NoError(t, json.Unmarshal([]byte(out.Stdout), &v))
	assert.Equal(t, []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}, v.SupportedVersions)
}
