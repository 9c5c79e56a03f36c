// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	helmcmd "helm.sh/helm/v4/pkg/cmd"

	"github.com/sriovkit/sriovkit/e2e/cluster"
	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/process"
)

const (
	// patience is many times what anything takes on two busy cores.
	patience = 10 * time.Minute
	// asHelm in the environment makes this program Helm: a cluster is in a network
	// namespace of its own, which only another process can be in.
	asHelm = "SRIOVKIT_TEST_AS_HELM"

	operatorChart, kindsChart, multusChart = "sriov-network-operator", "sriov-network-operator-crds", "multus-shim"
)

func TestMain(m *testing.M) {
	if os.Getenv(asHelm) == "" {
		os.Exit(m.Run())
	}
	cmd, err := helmcmd.NewRootCmd(os.Stdout, os.Args[1:], helmcmd.SetupLogging)
	if err == nil {
		err = cmd.Execute()
	}
	if err != nil {
		os.Exit(1)
	}
}

// site is a cluster that reaches nothing, and what an administrator brings there: bundles.
type site struct {
	*testing.T
	*cluster.Cluster
	ctx              context.Context // also good in cleanups
	publish          string          // program
	key, certificate string
}

func newSite(t *testing.T, config cluster.Config) *site {
	t.Helper()
	s := &site{T: t, ctx: context.WithoutCancel(t.Context()), publish: filepath.Join(t.TempDir(), "publish")}
	run(t, "go", "-C", "../publish", "build", "-trimpath", "-ldflags", "-s -w", "-o", s.publish, ".")
	s.key, s.certificate = codeSigningKey(t)
	var err error
	s.Cluster, err = cluster.Start(s.ctx, config)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			for _, args := range []string{"describe pods -A", "get sriovnetworknodestates -A -o yaml", "get pods -A -o wide"} {
				out, _ := s.Kubectl(s.ctx, nil, strings.Fields(args)...)
				t.Log(out)
			}
			t.Log(s.SaveLogs(s.ctx))
		}
		require.NoError(t, s.Close())
	})
	return s
}

// sources is a checkout of a commit or tag of this repository; empty is what is here.
func (s *site) sources(commit string) string {
	s.Helper()
	here, err := component.Checkout(s.ctx)
	require.NoError(s, err)
	if commit == "" {
		return here
	}
	there := filepath.Join(s.TempDir(), "sources")
	run(s.T, "git", "clone", "-q", "--shared", "--no-checkout", here, there)
	run(s.T, "git", "-C", there, "checkout", "-q", commit)
	return there
}

// bundle makes the bundle of a version from a checkout and returns it with the directory of its
// charts.
func (s *site) bundle(version, checkout string) (archive, charts string) {
	s.Helper()
	images, extra := s.TempDir(), s.TempDir()
	release := component.Release{Tag: version, Revision: strings.Repeat("0", 40), Platforms: []string{"linux/amd64"}}
	require.NoError(s, component.BuildRelease(s.ctx, checkout, images, release, component.All...))
	charts = filepath.Join(extra, "charts")
	run(s.T, "go", "-C", filepath.Join(checkout, "e2e/charts"), "run", ".", "-o", charts, "-version", version)
	archive = filepath.Join(s.TempDir(), version+".tar")
	run(s.T, s.publish, "bundle", "-images", images, "-extra", extra, "-o", archive, "-key", s.key, "-certificate", s.certificate)
	return archive, charts
}

// loadIntoRegistry starts a registry on the node's loopback and loads a bundle into it, with
// what is in the bundle alone, and returns the registry's name.
func (s *site) loadIntoRegistry(bundle string) string {
	s.Helper()
	program := filepath.Join(s.TempDir(), "registry")
	run(s.T, "go", "-C", "..", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./cmd/registry")
	for from, to := range map[string]string{program: "/run/registry", bundle: "/var/tmp/bundle.tar", s.certificate: "/var/tmp/release.pem"} {
		require.NoError(s, s.Nodes[0].Push(s.ctx, from, to))
	}
	out := s.node(`cd /var/tmp; tar xf bundle.tar publish
		setsid /run/registry >/var/log/registry.log 2>&1 </dev/null &
		until grep -q serving /var/log/registry.log; do sleep 0.1; done
		! ./publish load -bundle bundle.tar -registry 127.0.0.1:5000/sriovkit -certificate /etc/kubernetes/ca.crt || exit 1
		./publish load -bundle bundle.tar -registry 127.0.0.1:5000/sriovkit -certificate release.pem
		rm bundle.tar publish`)
	require.Equal(s, len(component.All), strings.Count(out, " pushed\n"), out)
	return "127.0.0.1:5000/sriovkit"
}

// helm runs Helm's command beside the cluster.
func (s *site) helm(args ...string) (string, error) {
	s.Helper()
	home := s.TempDir()
	var out bytes.Buffer
	cmd := exec.CommandContext(s.ctx, cmp.Or(otherHelm, os.Args[0]), append(args, "--kubeconfig", s.Kubeconfig)...)
	cmd.Env = append(os.Environ(), asHelm+"=1", "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := process.Start(cmd, s.Netns().File)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = errors.Join(err, errors.New(out.String()))
	}
	return out.String(), err
}

// mustHelm runs Helm for a release in the operator's namespace or, multus, in kube-system.
func (s *site) mustHelm(command, release string, args ...string) {
	s.Helper()
	namespace := component.Namespace
	if release == "multus" {
		namespace = "kube-system"
	}
	_, err := s.helm(append([]string{command, release, "-n", namespace}, args...)...)
	require.NoError(s, err, "%s %s %v", command, release, args)
}

func (s *site) kubectl(args ...string) string {
	s.Helper()
	out, err := s.Kubectl(s.ctx, nil, args...)
	require.NoError(s, err, "%v", args)
	return strings.TrimSpace(out)
}

// get is for polling: an error is no reason to stop.
func (s *site) get(args ...string) string {
	out, err := s.Kubectl(s.ctx, nil, append([]string{"get"}, args...)...)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(out)
}

// node runs a shell command on the node.
func (s *site) node(script string) string {
	s.Helper()
	out, err := s.Nodes[0].Output(s.ctx, "sh", "-ec", script)
	require.NoError(s, err)
	return strings.TrimSuffix(out, "\n") + "\n"
}

func (s *site) until(what string, check func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); !check(); time.Sleep(200 * time.Millisecond) {
		require.True(s, time.Now().Before(deadline), what)
	}
}

// settled waits until everything runs in the version of the images.
func (s *site) settled(operator, plugin, multus string) {
	s.Helper()
	for _, w := range [][3]string{
		{"kube-system", "daemonset/multus-shim", multus},
		{component.Namespace, "deployment/sriov-network-operator", operator},
		{component.Namespace, "daemonset/sriov-network-config-daemon", operator},
		{component.Namespace, "daemonset/sriov-device-plugin", plugin},
	} {
		in, each := "-n="+w[0], "--timeout="+patience.String()
		s.until(w[1]+" is there", func() bool { return !strings.Contains(s.get(in, w[1], "-o", "name"), "NotFound") })
		s.kubectl("wait", in, w[1], "--for=jsonpath={.spec.template.spec.containers[0].image}="+w[2], each)
		s.kubectl("rollout", "status", in, w[1], each)
	}
	s.kubectl("-n", component.Namespace, "wait", "sriovnetworknodestates", "--all", "--for=jsonpath={.status.syncStatus}=Succeeded", "--timeout="+patience.String())
}

// offered waits until the node offers a number of VFs.
func (s *site) offered(resource, want string) {
	s.Helper()
	s.kubectl("wait", "node/node1", "--for=jsonpath={.status.allocatable."+strings.ReplaceAll(resource, ".", `\.`)+"}="+want, "--timeout="+patience.String())
}

// start creates a pod on a network, and waits until it runs.
func (s *site) start(name, network, resource string) {
	s.Helper()
	require.NoError(s, s.Apply(s.ctx, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, annotations: {k8s.v1.cni.cncf.io/networks: %s}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: %s, resources: {limits: {%s: "1"}}}]
`, name, network, cluster.BusyboxImage, resource)))
	s.kubectl("wait", "pod/"+name, "--for=condition=Ready", "--timeout="+patience.String())
}

// codeSigningKey writes a key and its own certificate.
func codeSigningKey(t *testing.T) (key, certificate string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "release", Organization: []string{"test"}, Country: []string{"XX"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, BasicConstraintsValid: true,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600))
		return path
	}
	return write("key.pem", "PRIVATE KEY", encoded), write("release.pem", "CERTIFICATE", signed)
}
