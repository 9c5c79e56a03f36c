// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/controlplane"
)

// account talks to an API server with a service account's token.
type account struct {
	url, token string
	http       *http.Client
}

func (a account) patch(t *testing.T, path, body string) (code int, message string) {
	t.Helper()
	return a.patchAs(t, "application/merge-patch+json", path, body)
}

func (a account) patchAs(t *testing.T, contentType, path, body string) (code int, message string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, a.url+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+a.token)
	req.Header.Set("Content-Type", contentType)
	resp, err := a.http.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var status struct{ Message string }
	require.NoError(t, json.Unmarshal(data, &status))
	return resp.StatusCode, status.Message
}

// startPlane starts an API server that ends with the test; kubectl takes what a command reads
// and its arguments, and returns what it prints.
func startPlane(t *testing.T) (cp *controlplane.ControlPlane, kubectl func(input string, args ...string) string) {
	t.Helper()
	controlplane.Need(t)
	cp, err := controlplane.Start(t.Context(), controlplane.Config{Log: io.Discard})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cp.Close()) })
	return cp, func(input string, args ...string) string {
		t.Helper()
		out, err := cp.Kubectl(t.Context(), strings.NewReader(input), args...)
		require.NoError(t, err)
		return strings.TrimSpace(out)
	}
}

// The token that multus-shim leaves on a node can write network-status of the pods
// on that node, and nothing else: not their addresses, phase, labels or other
// annotations, and nothing of other nodes' pods. At the end multus-shim is uninstalled.
func TestMultusWritesNetworkStatusOfItsNodeOnly(t *testing.T) {
	t.Parallel()
	cp, kubectl := startPlane(t)
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	kubectl("", "apply", "-k", filepath.Join(checkout, "multus-shim/deploy"))
	kubectl(`
{apiVersion: v1, kind: Node, metadata: {name: node1}}
---
{apiVersion: v1, kind: Node, metadata: {name: node2}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: default}}
---
{apiVersion: v1, kind: Pod, metadata: {name: installer, namespace: kube-system}, spec: {nodeName: node1, serviceAccountName: multus-shim, containers: [{name: c, image: none}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: own, labels: {a: b}, annotations: {keep: this}}, spec: {nodeName: node1, containers: [{name: c, image: none}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: bare}, spec: {nodeName: node1, containers: [{name: c, image: none}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: foreign}, spec: {nodeName: node2, containers: [{name: c, image: none}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: pending}, spec: {nodeSelector: {none: such}, containers: [{name: c, image: none}]}}
`, "apply", "-f", "-")
	uid := kubectl("", "get", "pod", "own", "-o", "jsonpath={.metadata.uid}")
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(cp.CA()))
	bound := account{url: cp.URL, http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}}
	unbound := bound
	bound.token = kubectl("", "-n", "kube-system", "create", "token", "multus-shim", "--bound-object-kind=Pod", "--bound-object-name=installer",
		"--bound-object-uid="+kubectl("", "-n", "kube-system", "get", "pod", "installer", "-o", "jsonpath={.metadata.uid}"))
	unbound.token = kubectl("", "-n", "kube-system", "create", "token", "multus-shim")

	const own = "/api/v1/namespaces/default/pods/own/status"
	const status = `"annotations":{"k8s.v1.cni.cncf.io/network-status":"[]"}`
	// A policy that was just made takes a moment to be in force.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		code, _ := bound.patch(t, own, `{"status":{"podIP":"10.0.0.66"}}`)
		if code == http.StatusForbidden {
			break
		}
		require.NoError(t, ctx.Err(), "the policy does not come into force")
	}
	for { // both of them
		code, message := bound.patchAs(t, "application/apply-patch+yaml", "/api/v1/namespaces/default/events/early?fieldManager=x",
			`{apiVersion: v1, kind: Event, metadata: {name: early}, source: {component: kubelet}, reason: Early, involvedObject: {kind: Pod, name: own, namespace: default}}`)
		if code == http.StatusForbidden {
			break
		}
		require.NoError(t, ctx.Err(), "the policy of events does not come into force: %d %s", code, message)
	}
	kubectl("", "patch", "pod", "own", "--subresource=status", "--type=merge", "-p", `{"status":{"podIP":null,"podIPs":null,"phase":"Pending"}}`)

	for name, tc := range map[string]struct {
		account account
		pod     string
		body    string
		want    string // "" for success
	}{
		"status":               {bound, "own", `{"metadata":{"uid":"` + uid + `",` + status + `}}`, ""},
		"again":                {bound, "own", `{"metadata":{"annotations":{"k8s.v1.cni.cncf.io/network-status":"[{}]"}}}`, ""},
		"first annotation":     {bound, "bare", `{"metadata":{` + status + `}}`, ""},
		"another node":         {bound, "foreign", `{"metadata":{` + status + `}}`, "on its own node only"},
		"no node":              {bound, "pending", `{"metadata":{` + status + `}}`, "on its own node only"},
		"token without a node": {unbound, "own", `{"metadata":{` + status + `}}`, "on its own node only"},
		"address":              {bound, "own", `{"metadata":{` + status + `},"status":{"podIP":"10.0.0.66","podIPs":[{"ip":"10.0.0.66"}]}}`, "nothing of the status itself"},
		"phase":                {bound, "own", `{"status":{"phase":"Running"}}`, "nothing of the status itself"},
		"condition":            {bound, "own", `{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`, "nothing of the status itself"},
		"other annotation":     {bound, "own", `{"metadata":{"annotations":{"other":"x"}}}`, "and no other"},
		"changed annotation":   {bound, "own", `{"metadata":{"annotations":{"keep":"that"}}}`, "and no other"},
		"removed annotation":   {bound, "own", `{"metadata":{"annotations":{"keep":null}}}`, "and no other"},
		"label":                {bound, "own", `{"metadata":{"labels":{"a":"c"}}}`, "no labels"},
		"finalizer":            {bound, "own", `{"metadata":{"finalizers":["example.com/hold"]}}`, "no labels"},
	} {
		code, message := tc.account.patch(t, "/api/v1/namespaces/default/pods/"+tc.pod+"/status", tc.body)
		if tc.want == "" {
			assert.Equal(t, http.StatusOK, code, "%s: %s", name, message)
			continue
		}
		assert.Equal(t, http.StatusForbidden, code, "%s: %s", name, message)
		assert.Contains(t, message, tc.want, name)
	}
	// The same in the other languages of patches, and what other subresources would do.
	for contentType, body := range map[string]string{
		"application/json-patch+json":            `[{"op":"add","path":"/status/podIP","value":"10.0.0.66"}]`,
		"application/strategic-merge-patch+json": `{"status":{"podIP":"10.0.0.66"}}`,
		"application/apply-patch+yaml":           `{apiVersion: v1, kind: Pod, metadata: {name: own}, status: {podIP: 10.0.0.66}}`,
	} {
		code, message := bound.patchAs(t, contentType, own+"?fieldManager=x", body)
		assert.Equal(t, http.StatusForbidden, code, "%s: %s", contentType, message)
	}
	for _, elsewhere := range []string{"pods/own/resize", "pods/own/ephemeralcontainers", "pods/own", "nodes/node1", "nodes/node1/status"} {
		path := "/api/v1/" + elsewhere
		if strings.HasPrefix(elsewhere, "pods/") {
			path = "/api/v1/namespaces/default/" + elsewhere
		}
		code, _ := bound.patch(t, path, `{"metadata":{`+status+`}}`)
		assert.Equal(t, http.StatusForbidden, code, elsewhere)
	}
	assert.Equal(t, "", kubectl("", "get", "pod", "own", "-o", "jsonpath={.status.podIP}"))
	// The answer by which multus-shim knows that a pod is another one by now.
	code, message := bound.patch(t, own, `{"metadata":{"uid":"00000000-0000-0000-0000-000000000000",`+status+`}}`)
	assert.Equal(t, http.StatusUnprocessableEntity, code)
	assert.Contains(t, message, "metadata.uid")
	code, _ = bound.patch(t, "/api/v1/namespaces/default/pods/own", `{"metadata":{"labels":{"a":"c"}}}`)
	assert.Equal(t, http.StatusForbidden, code, "not the pod itself")
	kubectl("", "patch", "pod", "foreign", "--subresource=status", "--type=merge", "-p", `{"status":{"phase":"Running"}}`) // others are not concerned
	multusEvents(t, bound, kubectl)
	multusGoes(t, kubectl, checkout)
}

// multusEvents tries the same token on events: it makes its own, of pods, and leaves those of
// others alone.
func multusEvents(t *testing.T, bound account, kubectl func(input string, args ...string) string) {
	t.Helper()
	kubectl(`
{apiVersion: v1, kind: Event, metadata: {name: foreign}, source: {component: kubelet}, reason: Started, message: of others, type: Normal,
  involvedObject: {kind: Pod, name: own, namespace: default}}
`, "apply", "-f", "-")
	event := func(members string) string {
		return `{apiVersion: v1, kind: Event, metadata: {name: NAME}, reason: FailedNetworks, message: why, type: Warning, ` + members + `}`
	}
	const ofPod, multus = `involvedObject: {kind: Pod, name: own, namespace: default}`, `source: {component: multus, host: node1}`
	const apply, merge = "application/apply-patch+yaml", "application/merge-patch+json"
	for _, tc := range []struct{ name, contentType, event, body, want string }{
		{"own", apply, "mine", event(ofPod + "," + multus), ""},
		{"its time", merge, "mine", `{"lastTimestamp":"2026-01-01T00:00:00Z","count":2}`, ""},
		{"its text", merge, "mine", `{"message":"another"}`, "the time of its own"},
		{"its object", merge, "mine", `{"involvedObject":{"name":"another"}}`, "the time of its own"},
		{"in another's name", apply, "new", event(ofPod + `,source: {component: kubelet}`), "events of its own"},
		{"reported by another", apply, "new", event(ofPod + "," + multus + `,reportingComponent: kubelet, reportingInstance: node1`), "events of its own"},
		{"in nobody's name", apply, "new", event(ofPod), "events of its own"},
		{"of a node", apply, "new", event(`involvedObject: {kind: Node, name: node1},` + multus), "events of its own"},
		{"another's time", merge, "foreign", `{"lastTimestamp":"2026-01-01T00:00:00Z"}`, "events of its own"},
		{"another's, taken over", merge, "foreign", `{"source":{"component":"multus"}}`, "the time of its own"},
	} {
		query := ""
		if tc.contentType == apply {
			query = "?fieldManager=x"
		}
		code, message := bound.patchAs(t, tc.contentType, "/api/v1/namespaces/default/events/"+tc.event+query, strings.Replace(tc.body, "NAME", tc.event, 1))
		if tc.want == "" {
			assert.Less(t, code, 300, "%s: %s", tc.name, message)
			continue
		}
		assert.Equal(t, http.StatusForbidden, code, "%s: %s", tc.name, message)
		assert.Contains(t, message, tc.want, tc.name)
	}
}
