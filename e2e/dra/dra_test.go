// SPDX-License-Identifier: Apache-2.0

// Package dra_test runs the DRA driver as a process on generated hosts beside a real API
// server, with the rights that its own manifests give it.
package dra_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/controlplane"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

const driver = "sriovnetwork.k8snetworkplumbingwg.io"

// env is an API server with the driver's manifests and two nodes, a and b.
type env struct {
	*testing.T
	*controlplane.ControlPlane
	program string // the driver, see build
}

// build compiles the driver.
func (e *env) build() {
	e.Helper()
	checkout, err := component.Checkout(e.Context())
	require.NoError(e, err)
	require.NoError(e, component.Programs(e.Context(), checkout, filepath.Dir(e.program), filepath.Base(e.program)))
}

func newEnv(t *testing.T, c controlplane.Config) *env {
	t.Helper()
	controlplane.Need(t)
	p, err := controlplane.Start(t.Context(), c)
	require.NoError(t, err)
	e := &env{T: t, ControlPlane: p, program: filepath.Join(t.TempDir(), "sriovdra")}
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	e.kubectl("", "apply", "-k", filepath.Join(checkout, "device-plugin/deploy/dra"))
	for _, node := range []string{"a", "b"} {
		e.kubectl(`{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "`+node+`"}}`, "apply", "-f", "-")
	}
	return e
}

func (e *env) kubectl(input string, args ...string) string {
	e.Helper()
	out, err := e.Kubectl(e.Context(), strings.NewReader(input), args...)
	require.NoError(e, err)
	return out
}

// get reads objects for one of the conditions that are waited for.
func (e *env) get(t require.TestingT, into any, what ...string) {
	out, err := e.Kubectl(e.Context(), nil, append([]string{"get", "-o", "json"}, what...)...)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(out), into))
}

// patience bounds the waiting for what may never happen.
const patience = 5 * time.Minute

// token is the driver's on a node, bound to it.
func (e *env) token(node string) string {
	e.Helper()
	return strings.TrimSpace(e.kubectl("", "create", "token", "sriovdra", "-n", "kube-system", "--bound-object-kind=Node", "--bound-object-name="+node))
}

// patchStatus patches a claim's status with the rights of a node's driver, as kubectl
// does not: it wants to read the status first.
func (e *env) patchStatus(node, body string) error {
	e.Helper()
	pool := x509.NewCertPool()
	require.True(e, pool.AppendCertsFromPEM(e.CA()))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(e.Context(), http.MethodPatch, e.URL+"/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/vf/status", strings.NewReader(body))
	require.NoError(e, err)
	r.Header.Set("Authorization", "Bearer "+e.token(node))
	r.Header.Set("Content-Type", "application/merge-patch+json")
	answer, err := client.Do(r)
	require.NoError(e, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(e, err)
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", answer.Status, text)
	}
	return nil
}

// kubeconfig is that of the driver on a node.
func (e *env) kubeconfig(node string) string {
	e.Helper()
	token := e.token(node)
	ca := filepath.Join(e.TempDir(), "ca.crt")
	require.NoError(e, os.WriteFile(ca, e.CA(), 0o600))
	path := filepath.Join(e.TempDir(), "kubeconfig")
	require.NoError(e, os.WriteFile(path, []byte(fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": [{"name": "c", "cluster": {"server": %q, "certificate-authority": %q}}],
		"users": [{"name": "u", "user": {"token": %q}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}`,
		e.URL, ca, token)), 0o600))
	return path
}

// process is a running driver.
type process struct {
	*exec.Cmd
	log   string
	begun time.Time
}

// start runs the driver on a host, whose VFs of kernel drivers are all in one pool that cares
// for links. records are of claims that it prepared before.
func (e *env) start(node, host string, records ...string) *process {
	e.Helper()
	dir := e.TempDir()
	tree := filepath.Join(dir, "tree")
	require.NoError(e, os.Mkdir(tree, 0o755))
	require.NoError(e, sriovtest.Unpack(tree, host))
	config := filepath.Join(dir, "config.json")
	require.NoError(e, os.WriteFile(config, []byte(`{"resourceList": [{"resourceName": "vfs", "selectors": {"drivers": ["iavf"]}, "linkHealth": true}]}`), 0o600))
	kubelet, err := os.MkdirTemp("", "k") // a test's own directory has a name too long for sockets in it
	require.NoError(e, err)
	e.Cleanup(func() { require.NoError(e, os.RemoveAll(kubelet)) })
	require.NoError(e, os.Mkdir(filepath.Join(kubelet, "device-plugins"), 0o750))
	claims := filepath.Join(kubelet, "plugins", driver, "claims")
	require.NoError(e, os.MkdirAll(claims, 0o700))
	for _, r := range records {
		var c struct{ UID string }
		require.NoError(e, json.Unmarshal([]byte(r), &c))
		require.NoError(e, os.WriteFile(filepath.Join(claims, c.UID+".json"), []byte(r), 0o600))
	}
	p := &process{log: filepath.Join(dir, "log")}
	log, err := os.Create(p.log)
	require.NoError(e, err)
	defer log.Close()
	p.Cmd = exec.Command(e.program, "-kubeconfig", e.kubeconfig(node), "-node-name", node, "-config-file", config, "-resource-prefix", "example.com",
		"-sysfs-root", tree, "-captured", "-kubelet-dir", kubelet, "-cdi-dir", filepath.Join(dir, "cdi"),
		"-device-info-dir", filepath.Join(dir, "devinfo"), "-attachments-dir", filepath.Join(dir, "attachments"))
	p.Stderr = log
	p.begun = time.Now()
	require.NoError(e, p.Start())
	e.Cleanup(func() {
		_ = p.Process.Signal(os.Interrupt)
		err := p.Wait()
		text, _ := os.ReadFile(p.log)
		require.NoError(e, err, "%s", text)
		if e.Failed() {
			e.Logf("%s", text)
		}
	})
	return p
}

// cpu is the time that the process has had of a processor.
func (p *process) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):])) // utime and stime are the 14th and 15th
	user, _ := strconv.Atoi(fields[12])
	system, _ := strconv.Atoi(fields[13])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

type device struct {
	Name       string
	Attributes map[string]struct {
		String string
		Int    *int
	}
}

type slice struct {
	Metadata struct {
		Name              string
		CreationTimestamp time.Time
	}
	Spec struct {
		NodeName string
		Pool     struct {
			Name                           string
			Generation, ResourceSliceCount int
		}
		Devices []device
	}
}

// slices awaits a complete pool of a node with so many devices.
func (e *env) slices(node string, devices int) (out []slice) {
	e.Helper()
	require.EventuallyWithT(e, func(t *assert.CollectT) {
		var list struct{ Items []slice }
		e.get(t, &list, "resourceslices")
		out = nil
		n := 0
		for _, s := range list.Items {
			if s.Spec.NodeName == node {
				out = append(out, s)
				n += len(s.Spec.Devices)
			}
		}
		require.NotEmpty(t, out)
		require.Len(t, out, out[0].Spec.Pool.ResourceSliceCount)
		require.Equal(t, devices, n)
	}, patience, 50*time.Millisecond, "node %s", node)
	return out
}

// said awaits a line of the driver's log with a message, and returns it with its time.
func (p *process) said(t *testing.T, msg string) (line string, at time.Time) {
	t.Helper()
	require.Eventually(t, func() bool {
		text, _ := os.ReadFile(p.log)
		for line = range strings.Lines(string(text)) {
			var e struct {
				Time time.Time
				Msg  string
			}
			if json.Unmarshal([]byte(line), &e) == nil && strings.Contains(e.Msg, msg) {
				at = e.Time
				return true
			}
		}
		return false
	}, patience, 10*time.Millisecond, "%q", msg)
	return line, at
}

func TestPublishes(t *testing.T) {
	e := newEnv(t, controlplane.Config{})
	e.build()
	for node, vfs := range map[string]int{"a": 150, "b": 512} {
		p := e.start(node, sriovtest.Generate(sriovtest.Spec{PFs: 2, VFs: vfs}))
		seen := map[string]bool{}
		slices := e.slices(node, 2*vfs)
		for _, s := range slices {
			require.LessOrEqual(t, len(s.Spec.Devices), 64)
			require.Equal(t, node, s.Spec.Pool.Name)
			require.Equal(t, slices[0].Spec.Pool.Generation, s.Spec.Pool.Generation)
			require.WithinDuration(t, p.begun, s.Metadata.CreationTimestamp, time.Minute)
			for _, d := range s.Spec.Devices {
				require.False(t, seen[d.Name], "%s is there twice", d.Name)
				seen[d.Name] = true
			}
		}
		line, at := p.said(t, "published")
		require.Contains(t, line, fmt.Sprintf(`"devices":%d`, 2*vfs))
		_, first := p.said(t, "first slices are made")
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
		require.NoError(t, err)
		_, rss, _ := strings.Cut(string(status), "VmRSS:")
		rss, _, _ = strings.Cut(rss, "\n")
		t.Logf("%d VFs: slices made %s after the start, found good after %s, %s of CPU; RSS %s", 2*vfs,
			first.Sub(p.begun).Round(time.Millisecond), at.Sub(p.begun).Round(time.Millisecond), p.cpu(), strings.TrimSpace(rss))
	}
}

// heldRecord is the driver's, of a claim that has a VF which the host has no more.
const heldRecord = `{"version": 1, "uid": "2f0a2b1e-5d4c-4a56-9a5e-2f4d1c0b9a87", "namespace": "default", "name": "vf", "pod": {"uid": "1", "name": "p"},
	"bootID": "b", "prepared": true, "requests": [{"name": "vf", "devices": [
	{"id": "0000:01:01.7", "name": "0000-01-01-7", "resource": {"Prefix": "example.com", "Name": "vfs"}, "driver": "iavf"}]}]}`

// TestOlderAPIServer is one of Kubernetes 1.34, which drops taints: the driver says so once
// and leaves out what would have one, here a VF that a claim has and that is gone.
func TestOlderAPIServer(t *testing.T) {
	e := newEnv(t, controlplane.Config{ServerFlags: []string{"--emulated-version=1.34"}})
	e.build()
	p := e.start("a", sriovtest.Generate(sriovtest.Spec{PFs: 2, VFs: 3}), heldRecord)
	line, _ := p.said(t, "drops device taints")
	text, err := os.ReadFile(p.log)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(text), line))
	for _, s := range e.slices("a", 6) {
		for _, d := range s.Spec.Devices {
			require.NotEqual(t, "0000-01-01-7", d.Name)
		}
	}
}

// TestRightsEndAtTheNode uses a driver's token for what only another node's may do.
func TestRightsEndAtTheNode(t *testing.T) {
	e := newEnv(t, controlplane.Config{})
	slice := func(node, of string) string {
		return `{"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "forged-` + node + `"},
			"spec": {"driver": "` + of + `", "nodeName": "` + node + `", "pool": {"name": "` + node + `", "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "x"}]}}`
	}
	as := func(node, input string, args ...string) error {
		_, err := e.Kubectl(e.Context(), strings.NewReader(input), append([]string{"--kubeconfig", e.kubeconfig(node)}, args...)...)
		return err
	}
	// Policies take effect a moment after they were made.
	require.Eventually(t, func() bool {
		err := as("a", slice("b", driver), "create", "--dry-run=server", "-f", "-")
		return err != nil && strings.Contains(err.Error(), "the token is of node a")
	}, patience, 100*time.Millisecond)
	require.NoError(t, as("a", slice("a", driver), "create", "-f", "-"))
	require.ErrorContains(t, as("b", "", "delete", "resourceslice", "forged-a"), "the token is of node b")
	require.ErrorContains(t, as("a", slice("a", "gpu.example.com"), "create", "--dry-run=server", "-f", "-"), "another driver")

	e.kubectl(`{"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "vf", "namespace": "default"},
		"spec": {"devices": {"requests": [{"name": "vf", "exactly": {"deviceClassName": "vfs.example.com"}}]}}}`, "create", "-f", "-")
	e.kubectl("", "patch", "resourceclaim", "vf", "--subresource=status", "--type=merge", "-p", `{"status": {
		"reservedFor": [{"resource": "pods", "name": "p", "uid": "1"}],
		"allocation": {"nodeSelector": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]}, "devices": {"results": [{"request": "vf", "driver": "`+driver+`", "pool": "a", "device": "x"},
			{"request": "vf", "driver": "`+driver+`", "pool": "b", "device": "x"}]}}}}`)
	status := func(pool string) string {
		return `{"status": {"devices": [{"driver": "` + driver + `", "pool": "` + pool + `", "device": "x", "networkData": {"interfaceName": "net1"}}]}}`
	}
	// The API server itself refuses here from 1.36 on, before then the policy does.
	require.Error(t, e.patchStatus("b", status("a")))
	require.NoError(t, e.patchStatus("a", status("a")))
	require.Error(t, e.patchStatus("b", `{"status": {"devices": []}}`))
	require.ErrorContains(t, e.patchStatus("a", status("b")), "a device of another node or driver would change")
	require.Error(t, e.patchStatus("a", `{"status": {"allocation": null, "reservedFor": null}}`))
	require.Contains(t, e.kubectl("", "get", "resourceclaim", "vf", "-o", "jsonpath={.status.devices[0].networkData.interfaceName}"), "net1")
}
