// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/internal/apitest"
)

// withoutRuntime is a pod whose runtime does not pass annotations.
func (e *env) withoutRuntime(uid string, annotations map[string]string) {
	e.annotations = nil
	e.api.PutPod(podNS, podName, uid, annotations)
}

func TestPodFromTheAPI(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.nad("neta", "")
	e.withoutRuntime(podUID, map[string]string{"k8s.v1.cni.cncf.io/networks": "neta"})
	e.must("ADD")
	assert.Equal(t, []string{"ADD eth0", "ADD net1"}, names(e.calls()))
	assert.Equal(t, []string{"GET pod1", "GET neta", "PATCH status"}, e.asked())
}

func TestReplacedPod(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.withoutRuntime("uid-2", nil)
	e.mustFail("ADD", types.ErrTryAgainLater, "the pod was replaced")
	assert.Empty(t, e.calls())
	e.must("DEL")
}

func TestStaticPod(t *testing.T) {
	t.Parallel()
	static := map[string]string{"kubernetes.io/config.source": "file"}
	for name, fromAPI := range map[string]bool{"annotations from the runtime": false, "from the API server": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.api.PutPod(podNS, podName, "uid-of-the-mirror", static)
			e.conf["statusFailure"] = "strict" // else nobody waits for it longer than two seconds
			e.annotations = static
			if fromAPI {
				e.annotations = nil
			}
			e.must("ADD")
			assert.Len(t, e.status(), 1)
		})
	}
}

func TestPodThatIsNotFound(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.annotations = nil
	e.args = strings.Replace(e.args, podName, "other", 1)
	e.mustFail("ADD", types.ErrTryAgainLater, "pod ns1/other")
	assert.Empty(t, e.calls())
}

func TestSlowAPI(t *testing.T) {
	t.Parallel()
	for _, delay := range []time.Duration{700 * time.Millisecond, 2 * time.Second} {
		t.Run(delay.String(), func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.detect()
			e.nad("neta", "")
			e.withoutRuntime(podUID, map[string]string{"k8s.v1.cni.cncf.io/networks": "neta"})
			e.conf["apiTimeout"] = "10m"
			e.api.Fault(func(http.ResponseWriter, *http.Request) bool { time.Sleep(delay); return false })
			e.must("ADD")
			assert.Equal(t, []string{"ADD eth0", "ADD net1"}, names(e.calls()))
			assert.Len(t, e.status(), 2)
		})
	}
}

// firstTimes fails the first n requests.
func firstTimes(n int32, fail func(http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
	var count atomic.Int32
	return func(w http.ResponseWriter, _ *http.Request) bool {
		if count.Add(1) > n {
			return false
		}
		fail(w)
		return true
	}
}

func TestAPIThatRecovers(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(http.ResponseWriter){
		"429 with Retry-After": func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "1")
			apitest.Fail(w, http.StatusTooManyRequests, "slow down")
		},
		"503":              func(w http.ResponseWriter) { apitest.Fail(w, http.StatusServiceUnavailable, "starting") },
		"dropped requests": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.detect()
			e.nad("neta", "")
			e.networks("neta")
			e.api.Fault(firstTimes(2, fail))
			start := time.Now()
			e.must("ADD")
			if strings.HasPrefix(name, "429") {
				assert.GreaterOrEqual(t, time.Since(start), 2*time.Second, "as long as the server asked for")
			}
			assert.Equal(t, []string{"GET neta", "GET neta", "GET neta", "PATCH status"}, e.asked())
		})
	}
}

// An API server that is of no use within the time ends the ADD, which is tried again.
func TestAPIThatStaysAway(t *testing.T) {
	t.Parallel()
	for _, timeout := range []string{"1ns", "1ms"} { // over before the first request, and during it
		e := newEnv(t)
		e.detect()
		e.conf["apiTimeout"] = timeout
		e.networks("neta")
		e.api.Fault(func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
		e.mustFail("ADD", types.ErrTryAgainLater, "ns1/neta")
		assert.Empty(t, e.calls())
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.detect()
	e.nad("neta", "")
	e.networks("neta")
	e.must("ADD")
	e.must("DEL")
	e.api.Rotate("second-token")
	e.api.Forget()
	e.must("ADD")
	e.must("DEL")
	for _, r := range e.api.Requests() {
		assert.Equal(t, "second-token", r.Token, "every process reads the file")
	}

	// The file changes under a process that has sent the old token already.
	e.api.RotateServer("third-token")
	e.api.Fault(firstTimes(1, func(w http.ResponseWriter) {
		assert.NoError(t, e.api.WriteToken("third-token"))
		apitest.Fail(w, http.StatusUnauthorized, "Unauthorized")
	}))
	e.api.Forget()
	e.must("ADD")
	assert.Equal(t, []string{"GET neta", "GET neta", "PATCH status"}, e.asked())
	assert.Equal(t, "third-token", e.api.Requests()[1].Token)
}

func TestUntrustedAPI(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.conf["kubeconfig"] = e.api.KubeconfigWith(otherCA(t))
	e.networks("neta")
	e.conf["events"] = "none"
	e.mustFail("ADD", types.ErrTryAgainLater, "certificate signed by unknown authority")
	assert.EqualValues(t, 1, e.api.Connections(), "it does not get better by trying again")
}

// otherCA is a certificate that signed nothing here.
func otherCA(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestBadArguments(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.args = "K8S_POD_NAME"
	e.mustFail("ADD", types.ErrInvalidEnvironmentVariables, `CNI_ARGS: "K8S_POD_NAME" is not KEY=VALUE`)
	e.args, e.netns = "", "/does/not/exist"
	e.nad("neta", "")
	e.networks("neta")
	e.args = "K8S_POD_NAMESPACE=" + podNS + ";K8S_POD_NAME=" + podName
	e.mustFail("ADD", types.ErrInvalidNetNS, "/does/not/exist")
	assert.Empty(t, e.calls())
}

// Only that there is no such network, or that it may not be read, is the user's affair.
func TestEveryAnswerToARequestForANAD(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.conf["apiTimeout"] = "1s"
	e.networks("neta")
	for _, code := range []int{204, 206, 304, 400, 402, 405, 406, 409, 410, 412, 413, 415, 418, 422, 428, 429, 431, 500, 501, 502, 503, 504, 505, 507, 511, 599, 403, 404} {
		e.api.Fault(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet {
				return false
			}
			w.WriteHeader(code)
			return true
		})
		e.api.Forget()
		want := types.ErrTryAgainLater
		if code == http.StatusForbidden || code == http.StatusNotFound {
			want = types.ErrInvalidNetworkConfig
		}
		e.mustFail("ADD", want, "network-attachment-definition ns1/neta: ")
		assert.Empty(t, e.calls(), code)
		assert.Equal(t, want == types.ErrInvalidNetworkConfig, slices.Contains(e.asked(), "POST events"), code)
	}
}

func TestForbiddenNAD(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.networks("neta")
	e.api.Fault(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet {
			apitest.Fail(w, http.StatusForbidden, "no")
		}
		return r.Method == http.MethodGet
	})
	e.mustFail("ADD", types.ErrInvalidNetworkConfig, "403 Forbidden")
	assert.Equal(t, []string{"GET neta", "POST events"}, e.asked(), "it is not tried again")
}

func TestIsolation(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		annotation, value string
		global            any
		allowed           bool
	}{
		"another namespace":            {"k8s.v1.cni.cncf.io/networks", "other/neta", nil, false},
		"another, as default network":  {"v1.multus-cni.io/default-network", "other/neta", nil, false},
		"that of multus, as default":   {"v1.multus-cni.io/default-network", "neta", nil, true},
		"that of multus, not default":  {"k8s.v1.cni.cncf.io/networks", "kube-system/neta", nil, false},
		"its own":                      {"k8s.v1.cni.cncf.io/networks", "neta", nil, true},
		"default is global":            {"k8s.v1.cni.cncf.io/networks", "default/neta", nil, true},
		"default is not always global": {"k8s.v1.cni.cncf.io/networks", "default/neta", "other, more", false},
		"global by configuration":      {"k8s.v1.cni.cncf.io/networks", "more/neta", "other, more", true},
		"global, as default network":   {"v1.multus-cni.io/default-network", "more/neta", "other, more", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.conf["namespaceIsolation"] = true
			if tc.global != nil {
				e.conf["globalNamespaces"] = tc.global
			}
			for _, ns := range []string{podNS, "other", "default", "more", "kube-system"} {
				e.api.PutNAD(ns, "neta", `{"type":"recorder"}`, nil)
			}
			e.annotations[tc.annotation] = tc.value
			if tc.allowed {
				e.must("ADD")
				return
			}
			e.mustFail("ADD", types.ErrInvalidNetworkConfig, "namespaceIsolation")
			assert.Empty(t, e.calls())
		})
	}
}

func TestDefaultNetworkAnnotation(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.delegate(`{"name":"dflt","type":"recorder"}`, `{"name":"second","type":"recorder"}`)
	e.api.PutNAD("kube-system", "mine", `{"type":"recorder",`+allCaps+`}`, nil)
	e.annotations["v1.multus-cni.io/default-network"] = `[{"name":"mine","mac":"02:00:00:00:00:05"}]`
	e.must("ADD")
	calls := e.calls()
	require.Equal(t, []string{"ADD eth0", "ADD net1"}, names(calls))
	assert.Equal(t, `"mine"`, calls[0].member(t, "name"))
	assert.Contains(t, calls[0].member(t, "runtimeConfig"), `"mac":"02:00:00:00:00:05"`)
	assert.Equal(t, `"second"`, calls[1].member(t, "name"), "only the first delegate is replaced")
	assert.Equal(t, "kube-system/mine", e.status()[0]["name"])
	assert.Equal(t, true, e.status()[0]["default"])

	e.must("DEL")
	e.annotations["v1.multus-cni.io/default-network"] = "a,b"
	e.mustFail("ADD", types.ErrInvalidNetworkConfig, "exactly one network")
}

func TestConfiguredClusterNetwork(t *testing.T) {
	t.Parallel()
	t.Run("NAD and default networks", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		delete(e.conf, "delegates")
		e.conf["clusterNetwork"], e.conf["defaultNetworks"] = "cluster", []string{"more", "ns2/even-more@x"}
		e.api.PutNAD("kube-system", "cluster", `{"type":"recorder"}`, nil)
		e.api.PutNAD("kube-system", "more", `{"type":"recorder"}`, nil)
		e.api.PutNAD("ns2", "even-more", `{"type":"recorder"}`, nil)
		e.must("ADD")
		assert.Equal(t, []string{"ADD eth0", "ADD net1", "ADD x"}, names(e.calls()))
		e.must("DEL")
		e.calls()
		e.conf["systemNamespaces"] = []string{podNS}
		e.must("ADD")
		assert.Equal(t, []string{"ADD eth0"}, names(e.calls()), "system pods get none of the default networks")
	})
	t.Run("file and chain", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		delete(e.conf, "delegates")
		e.confFile("net/10-flannel.conflist", `{"name":"cbr0","cniVersion":"1.0.0","plugins":[{"type":"recorder"}]}`)
		e.confFile("net/aux/a.conf", `{"type":"recorder","from":"aux"}`)
		e.conf["clusterNetwork"], e.conf["auxiliaryCNIChainName"] = e.confPath("net/10-flannel.conflist"), "aux"
		e.must("ADD")
		calls := e.calls()
		require.Equal(t, []string{"ADD eth0", "ADD net1"}, names(calls))
		assert.Equal(t, `"aux"`, calls[1].member(t, "from"))
		assert.JSONEq(t, `{"cniVersion":"1.1.0"}`, calls[1].member(t, "prevResult"), "it continues from an empty result")
	})
	t.Run("path of the daemon's container", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		delete(e.conf, "delegates")
		e.confFile("net/10-flannel.conflist", `{"name":"cbr0","cniVersion":"1.0.0","plugins":[{"type":"recorder"}]}`)
		e.conf["clusterNetwork"] = "/host" + e.confPath("net/10-flannel.conflist")
		e.must("ADD")
		e.must("DEL")
		assert.Equal(t, []string{"ADD eth0", "DEL eth0"}, names(e.calls()))
		e.conf["clusterNetwork"] = "/host" + e.confPath("net/none.conflist")
		e.mustFail("ADD", types.ErrInvalidNetworkConfig, "run multus-shim install")
	})
	t.Run("name not of an object", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		delete(e.conf, "delegates")
		e.confFile("by-name.conf", `{"name":"my_Net.1","type":"recorder"}`)
		e.conf["clusterNetwork"], e.conf["defaultNetworks"] = "my_Net.1", []string{"my_Net.1@net7"}
		e.must("ADD")
		assert.Equal(t, []string{"ADD eth0", "ADD net7"}, names(e.calls()))
		assert.Equal(t, []string{"PATCH status"}, e.asked())
	})
	t.Run("name of a file", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		delete(e.conf, "delegates")
		e.confFile("by-name.conf", `{"name":"by-name","type":"recorder"}`)
		e.conf["clusterNetwork"] = "by-name"
		e.must("ADD")
		assert.Equal(t, []string{"ADD eth0"}, names(e.calls()))
	})
}

func TestNoPod(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.annotations, e.args = nil, ""
	e.must("ADD")
	assert.Equal(t, []string{"ADD eth0"}, names(e.calls()))
	assert.Empty(t, e.api.Requests())
}
