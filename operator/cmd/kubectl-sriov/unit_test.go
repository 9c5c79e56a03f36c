// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

func TestRates(t *testing.T) {
	t.Parallel()
	scrape := func(rx, dropped string) map[vfKey]sample {
		all, err := parseMetrics("w1", []byte(`# TYPE sriov_vf_rx_bytes counter
sriov_vf_rx_bytes{pf="eth0",vf="3",pciAddr="0000:01:10.6",numa_node="0"} `+rx+`
# TYPE sriov_vf_rx_dropped counter
sriov_vf_rx_dropped{pf="eth0",vf="3",pciAddr="0000:01:10.6",numa_node="0"} `+dropped+`
# TYPE sriov_vf_tx_dropped counter
sriov_vf_tx_dropped{pf="eth0",vf="3",pciAddr="0000:01:10.6",numa_node="0"} 1
# TYPE sriov_kubepoddevice counter
sriov_kubepoddevice{pciAddr="0000:01:10.6",dev_type="openshift.io/nics",pod="app",namespace="default",container="c"} 1
`))
		require.NoError(t, err)
		require.Len(t, all, 1)
		return map[vfKey]sample{{"w1", "0000:01:10.6"}: {at: time.Unix(100, 0), rate: all[0]}}
	}
	later := func(m map[vfKey]sample) map[vfKey]sample {
		for k, s := range m {
			s.at = s.at.Add(2 * time.Second)
			m[k] = s
		}
		return m
	}
	want := Rate{Node: "w1", PF: "eth0", VF: 3, Address: "0000:01:10.6", Pod: "default/app", Counted: true, RxBytes: 500, Dropped: 2}
	require.Equal(t, []Rate{want}, rates(scrape("1000", "1"), later(scrape("2000", "5"))))
	want.RxBytes, want.Dropped = 50, 0
	require.Equal(t, []Rate{want}, rates(scrape("1000", "1"), later(scrape("100", "1"))), "a counter that began anew")
	require.Empty(t, rates(nil, scrape("1", "1")), "a VF that was not there before")

	require.Equal(t, "999.0 bit/s", bits(999.0/8))
	require.Equal(t, "25.0 Gbit/s", bits(25e9/8))
	_, err := parseMetrics("w1", []byte("<html>"))
	require.Error(t, err)
}

// igb counts nothing for VFs, and the kernel reports 0: that is not an idle VF.
func TestUncountedVFs(t *testing.T) {
	t.Parallel()
	var out, said bytes.Buffer
	c := &command{output: output{Writer: &out}, stderr: &said}
	at := func(second int64, rx float64) map[vfKey]sample {
		return map[vfKey]sample{{"w1", "a"}: {time.Unix(second, 0), Rate{Node: "w1", Address: "a"}}, {"w1", "b"}: {time.Unix(second, 0), Rate{Node: "w1", Address: "b", RxBytes: rx}}}
	}
	require.NoError(t, c.printRates(rates(at(1, 5), at(2, 5))))
	require.Regexp(t, `(?m)^w1 .* a( +-){6}$`, out.String())
	require.Regexp(t, `(?m)^w1 .* b +- +0.0 bit/s`, out.String())
	require.Contains(t, said.String(), "nothing has been counted since the VF was made")
}

// A claim's VF may be several containers' and pods': all of them are named, each once.
func TestRatesOfSharedVFs(t *testing.T) {
	t.Parallel()
	all, err := parseMetrics("w1", []byte(`sriov_vf_rx_bytes{pf="eth0",vf="3",pciAddr="0000:01:10.6"} 1
sriov_kubepoddevice{pciAddr="0000:01:10.6",pod="a",namespace="default",container="c"} 1
sriov_kubepoddevice{pciAddr="0000:01:10.6",pod="b",namespace="default",container="c"} 1
sriov_kubepoddevice{pciAddr="0000:01:10.6",pod="a",namespace="default",container="d"} 1
`))
	require.NoError(t, err)
	require.Equal(t, []Rate{{Node: "w1", PF: "eth0", VF: 3, Address: "0000:01:10.6", Pod: "default/a,default/b", RxBytes: 1}}, all)
}

// A node whose first count could not be read has no rates, and that is said.
func TestTopNamesNodesNotRead(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32 // of the node w2
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/dp-w2:") && asked.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, `{"kind": "Status", "message": "connection refused"}`)
			return
		}
		fmt.Fprintln(w, `sriov_vf_rx_bytes{pf="eth0",vf="3",pciAddr="0000:01:10.6"} 1`)
	}))
	t.Cleanup(api.Close)
	const namespace = "sriov-network-operator"
	scheme := runtime.NewScheme()
	require.NoError(t, errors.Join(clientgoscheme.AddToScheme(scheme), v1.AddToScheme(scheme), nad.AddToScheme(scheme)))
	objects := fake.NewClientBuilder().WithScheme(scheme)
	for _, node := range []string{"w1", "w2"} {
		objects.WithObjects(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "dp-" + node, Labels: map[string]string{"app": deploy.DevicePluginName}},
			Spec:       corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
		})
	}
	var out, said bytes.Buffer
	c := &command{output: output{Writer: &out}, stderr: &said, operator: namespace, config: &rest.Config{Host: api.URL}, patience: time.Minute, client: objects.Build()}
	require.NoError(t, c.top(t.Context(), traffic{time.Millisecond, defaultPort}, nil))
	require.Regexp(t, `w1 +eth0 +3 +0000:01:10.6`, out.String())
	require.NotContains(t, out.String(), "w2")
	require.Contains(t, said.String(), "not read: metrics of node w2: 503 Service Unavailable: connection refused\n")
}

// Only a terminal gets colours, and what others wrote never steers it.
func TestTable(t *testing.T) {
	t.Parallel()
	rows := func() [][]cell {
		return [][]cell{headings("NAME", "STATE"), {{"a\x1b[2Jb\nc", ""}, {"Failed", red}}, plain("é", "")}
	}
	var out bytes.Buffer
	output{Writer: &out}.table(rows())
	require.Equal(t, "NAME     STATE\na[2Jb c  Failed\né        -\n", out.String())
	out.Reset()
	output{Writer: &out, colour: true}.table(rows())
	require.Equal(t, "\x1b[1mNAME\x1b[0m     \x1b[1mSTATE\x1b[0m\na[2Jb c  \x1b[31mFailed\x1b[0m\né        -\n", out.String())
}
