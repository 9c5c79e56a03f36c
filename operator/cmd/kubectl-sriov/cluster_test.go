// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sriovkit/sriovkit/operator/internal/controlplane"
)

var update = flag.Bool("update", false, "write the outputs that the tests expect")

// cluster is a real API server with the manifests of config/ and nobody who acts on them.
type cluster struct {
	client.Client
	kubeconfig string // of an administrator
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	controlplane.Need(t)
	plane, err := controlplane.Start(context.WithoutCancel(t.Context()), controlplane.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, plane.Close()) })
	for _, args := range [][]string{
		{"apply", "-f", "../../internal/controller/testdata/nad-crd.yaml"},
		{"wait", "crd/network-attachment-definitions.k8s.cni.cncf.io", "--for=condition=Established", "--timeout=60s"},
		{"apply", "-k", "../../config"},
		{"-n", "sriov-network-operator", "patch", "deployment", "sriov-network-operator", "--subresource=status", "--type=merge",
			"-p", `{"status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2}}`}, // it would run
		{"create", "serviceaccount", "default"},
		{"-n", "sriov-network-operator", "create", "serviceaccount", "default"},
		{"create", "clusterrolebinding", "viewer", "--clusterrole=system:aggregate-to-view", "--user=viewer"},
		{"create", "clusterrolebinding", "keeper", "--clusterrole=sriov-network-view", "--user=keeper"},
		{"create", "clusterrolebinding", "sriov-viewer", "--clusterrole=sriov-network-view", "--user=viewer"},
	} {
		out, err := plane.Kubectl(t.Context(), nil, args...)
		require.NoError(t, err, "%v: %s", args, out)
	}
	config, err := clientcmd.BuildConfigFromFlags("", plane.Kubeconfig)
	require.NoError(t, err)
	c := &cluster{kubeconfig: plane.Kubeconfig}
	c.Client, err = client.New(config, client.Options{})
	require.NoError(t, err)
	return c
}

// as returns a kubeconfig of an account: viewer has the role view and that of config/, keeper
// sees SR-IOV's objects and nothing else, and a stranger nothing.
func (c *cluster) as(t *testing.T, account string) string {
	t.Helper()
	file, err := clientcmd.LoadFromFile(c.kubeconfig)
	require.NoError(t, err)
	for _, user := range file.AuthInfos {
		*user = clientcmdapi.AuthInfo{
			ClientCertificate: user.ClientCertificate, ClientCertificateData: user.ClientCertificateData,
			ClientKey: user.ClientKey, ClientKeyData: user.ClientKeyData, Token: user.Token, Impersonate: account,
		}
	}
	path := filepath.Join(t.TempDir(), account)
	require.NoError(t, clientcmd.WriteToFile(*file, path))
	return path
}

// load creates the objects of a file with their status, until the end of the test.
func (c *cluster) load(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var o unstructured.Unstructured
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		status, has := o.Object["status"]
		require.NoError(t, c.Create(t.Context(), &o), "%s %s", o.GetKind(), o.GetName())
		t.Cleanup(func() {
			require.NoError(t, c.Delete(context.Background(), &o, client.GracePeriodSeconds(0)))
		})
		if has {
			o.Object["status"] = status
			require.NoError(t, c.Status().Update(t.Context(), &o), "status of %s %s", o.GetKind(), o.GetName())
		}
	}
}

func kubectlSriov(t *testing.T, kubeconfig string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), append(args, "-kubeconfig", kubeconfig), output{Writer: &out}, &out)
	return out.String(), err
}

// One healthy cluster and five broken ones, each with what the command says. The pictures
// are for people to judge: go test -update writes them.
func TestOutputs(t *testing.T) {
	// The names of the machine's own database would differ from one to the next.
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "usr/share/misc"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "usr/share/misc/pci.ids"), []byte("8086  Intel Corporation\n\t159b  Ethernet Controller E810-XXV for SFP\n"), 0o600))
	t.Setenv("PCIDB_CHROOT", root)
	c := startCluster(t)
	names, err := filepath.Glob("testdata/*/commands")
	require.NoError(t, err)
	require.Len(t, names, 6)
	for _, name := range names {
		dir := filepath.Dir(name)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			c.load(t, filepath.Join(dir, "cluster.yaml"))
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			var got strings.Builder
			for line := range strings.Lines(string(text)) {
				args := strings.Fields(strings.TrimPrefix(line, "kubectl sriov"))
				out, err := kubectlSriov(t, c.kubeconfig, args...)
				fmt.Fprintf(&got, "$ %s%s", line, out)
				if err != nil {
					fmt.Fprintf(&got, "error: %v\n", err)
				}
				got.WriteString("\n")
			}
			golden := filepath.Join(dir, "output.txt")
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(got.String()), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), got.String())
		})
	}
	t.Run("viewer", func(t *testing.T) { testViewer(t, c) })
	t.Run("dump", func(t *testing.T) { testDump(t, c) })
	t.Run("bad input", func(t *testing.T) { testBadInput(t, c) })
	t.Run("not installed", func(t *testing.T) { testNotInstalled(t, c) }) // the last: its kinds are gone then
}

// An account that may only view sees nodes, VFs and pods, and is told what it does not see.
func testViewer(t *testing.T, c *cluster) {
	c.load(t, "testdata/healthy/cluster.yaml")
	viewer := c.as(t, "viewer")
	out, err := kubectlSriov(t, viewer)
	require.NoError(t, err)
	require.Contains(t, out, "not read: nodes: this account may not list them")
	require.Regexp(t, `w1 +ens1f0 +0 +0000:3b:01.0 +iavf +200 +openshift.io/nics +default/app \(net1\)`, out)
	require.NotContains(t, out, "default/liar")
	out, err = kubectlSriov(t, viewer, "why", "pod/app")
	require.NoError(t, err)
	require.Contains(t, out, "nothing is missing, as far as this account may read")
	_, err = kubectlSriov(t, viewer, "why", "w9")
	require.ErrorContains(t, err, "nothing is called w9, as far as could be read: nodes: this account may not list them")
	_, err = kubectlSriov(t, viewer, "why", "policy/w9")
	require.ErrorContains(t, err, "no SriovNetworkNodePolicy is called w9")
	out, err = kubectlSriov(t, viewer, "why", "pod", "app")
	require.NoError(t, err)
	require.Contains(t, out, "pod/default/app: ")

	stranger := c.as(t, "stranger")
	out, err = kubectlSriov(t, stranger)
	require.NoError(t, err)
	require.Contains(t, out, "not read: sriovnetworknodestates: this account may not list them")
	require.Contains(t, out, "Whether any node takes part is not known.")
	require.NotContains(t, out, "No node takes part")
	for args, want := range map[string]string{
		"w1":              "node w1: sriovnetworknodestates: this account may not list them",
		"top":             "find the device plugins: pods: this account may not list them",
		"why policy/nics": "policy nics: this account may not list them",
		"why nics":        "sriovnetworknodepolicies: this account may not list them",
	} {
		_, err := kubectlSriov(t, stranger, strings.Fields(args)...)
		require.ErrorContains(t, err, want, args)
	}

	out, err = kubectlSriov(t, c.as(t, "keeper"))
	require.NoError(t, err)
	require.Contains(t, out, "not read: pods: this account may not list them")
	require.Regexp(t, `w1 +ens1f0 +1 .* openshift.io/nics +\?\n`, out, "who may not list pods does not learn that nobody has it")
}

// A dump holds objects and says what is not in it; no secret of the cluster is.
func testDump(t *testing.T, c *cluster) {
	c.load(t, "testdata/healthy/cluster.yaml")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "sriov-network-operator", Name: "s"}, StringData: map[string]string{"key": "hunter2"}}
	require.NoError(t, c.Create(t.Context(), secret))
	t.Cleanup(func() { require.NoError(t, c.Delete(context.Background(), secret)) })
	c.load(t, "testdata/secrets.yaml")
	file := filepath.Join(t.TempDir(), "dump.tar.gz")
	_, err := kubectlSriov(t, c.kubeconfig, "dump", "-file", file)
	require.NoError(t, err)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	require.NoError(t, err)
	var all strings.Builder
	names := []string{}
	for r := tar.NewReader(unzipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		names = append(names, h.Name)
		_, err = io.Copy(&all, r)
		require.NoError(t, err)
	}
	require.Contains(t, names, "sriov-dump/objects/sriovnetworknodestates.yaml")
	require.Contains(t, all.String(), "0000:3b:01.0")
	require.Contains(t, all.String(), "secretKey", "the network is there")
	require.NotContains(t, all.String(), "hunter2")

	_, err = kubectlSriov(t, c.kubeconfig, "dump", "-file", file)
	require.ErrorContains(t, err, "is there already")
	left, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, left, 1)
}

// A cluster that does not know the kinds is told from one that an account may not look into,
// and from one in which nothing is wrong.
func testNotInstalled(t *testing.T, c *cluster) {
	w1 := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1"}}
	require.NoError(t, c.Create(t.Context(), w1))
	t.Cleanup(func() { require.NoError(t, c.Delete(context.Background(), w1)) })
	var kinds unstructured.Unstructured
	kinds.SetAPIVersion("apiextensions.k8s.io/v1")
	kinds.SetKind("CustomResourceDefinition")
	require.NoError(t, c.DeleteAllOf(t.Context(), &kinds))
	require.EventuallyWithT(t, func(check *assert.CollectT) {
		out, err := kubectlSriov(t, c.kubeconfig)
		require.NoError(check, err)
		require.Contains(check, out, "SR-IOV is not installed here")
	}, time.Minute, 100*time.Millisecond)
	out, err := kubectlSriov(t, c.kubeconfig, "why", "node/w1")
	require.NoError(t, err)
	require.Contains(t, out, "it does not know the kinds of SR-IOV")
	require.Contains(t, out, "-> install the operator")
	require.NotContains(t, out, "nothing is missing")
	_, err = kubectlSriov(t, c.kubeconfig, "why", "policy/nics")
	require.ErrorContains(t, err, "the cluster does not know this kind")
}

func testBadInput(t *testing.T, c *cluster) {
	for args, want := range map[string]string{
		"-o yaml":          `-o "yaml": want json`,
		"no-such-node":     "has no SriovNetworkNodeState",
		"why":              "give an object",
		"why service/a":    `"service/a": want pod/NAME`,
		"why pod/none":     `pods "none" not found`,
		"top":              "no device plugin and no DRA driver runs",
		"top -interval 0s": "want a positive duration",
		"dump w1":          `dump "w1": it takes no names`,
	} {
		_, err := kubectlSriov(t, c.kubeconfig, strings.Fields(args)...)
		require.ErrorContains(t, err, want, args)
	}
	_, err := kubectlSriov(t, "/no/such/kubeconfig")
	require.ErrorContains(t, err, "/no/such/kubeconfig")
}
