// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/stretchr/testify/require"
)

// scrape is what is served at the world's address; "" if nobody answers.
func (w *world) scrape() string {
	w.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + w.metrics + "/metrics")
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	require.NoError(w, err)
	require.Equal(w, http.StatusOK, r.StatusCode, "%s", text)
	return string(text)
}

// Metrics tell who has what through claims and, of before, through the device manager. Two
// instances share the address, and where the device plugin is back it is free.
func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w.metrics = free.Addr().String()
	require.NoError(t, free.Close())
	w.mode("")
	w.kube.AwaitCount(resourceName, 3)
	before, err := w.run("before")
	require.NoError(t, err)
	w.mode("dra")
	w.await(func() bool { return len(w.offered()) == 2 }, func() string { return "what the pod has not is not offered" })
	p, err := w.run("claims")
	require.NoError(t, err)
	row := func(name, container string, p *testPod, namespace string) string {
		return `sriov_kubepoddevice{container="` + container + `",dev_type="example.com/vfs",namespace="` + namespace + `",pciAddr="` + p.vf + `",pod="` + name + `"} 1`
	}
	text := ""
	w.await(func() bool { text = w.scrape(); return strings.Contains(text, `pod="claims"`) }, func() string { return text })
	require.Contains(t, text, row("claims", "main", p, "team"))
	require.Contains(t, text, `pciAddr="`+before.vf+`"`)
	require.Equal(t, 2, strings.Count(text, "sriov_kubepoddevice{"))

	second := w.newDriver()
	w.awaitProbe(second, "ready\n")
	w.driver.end(t)
	w.driver = second
	require.Contains(t, w.scrape(), `pod="claims"`)

	w.label("dra-rest")
	w.await(func() bool { return w.scrape() == "" }, func() string { return "the address is not left to the device plugin" })
	w.label("dra")
	w.await(func() bool { return w.scrape() != "" }, func() string { return "nothing is served again" })
}

func TestHolders(t *testing.T) {
	t.Parallel()
	vfs := config.Resource{Prefix: "example.com", Name: "vfs"}
	listed := []kubelet.Holder{
		{Device: "0", Resource: vfs, Pod: "plugged", Container: "c"},
		{Device: "1", Claim: "team/nic", Driver: "d", Pod: "p", Container: "c"},
		{Device: "1", Claim: "team/nic", Driver: "d", Pod: "p", Container: "beside"},
		{Device: "1", Claim: "team/look", Driver: "d", Pod: "admin", Container: "c"},
		{Device: "2", Claim: "team/other", Driver: "other", Pod: "p", Container: "c"},
	}
	first := kubelet.Holder{Device: "3", Claim: "team/first", Driver: "d", Resource: vfs, Pod: "init"}
	ours := []kubelet.Holder{{Device: "1", Claim: "team/nic", Driver: "d", Resource: vfs, Pod: "p"}, first}
	named := func(h kubelet.Holder) kubelet.Holder { h.Resource = vfs; return h }
	require.Equal(t, []kubelet.Holder{listed[0], named(listed[1]), named(listed[2]), listed[4], first}, holders(listed, ours, "d", true))
	require.Equal(t, listed, holders(listed, nil, "d", false), "records that cannot be read hide nothing")
}
