// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// call runs the program's own main function with an environment.
func call(t *testing.T, env map[string]string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	err = run(t.Context(), args, &out, &errs, func(k string) string { return env[k] })
	return out.String(), errs.String(), err
}

func TestCommandLine(t *testing.T) {
	good := map[string]string{"NAMESPACE": "ns", "RESOURCE_PREFIX": "openshift.io"}
	for name, tc := range map[string]struct {
		args []string
		env  map[string]string
		want string
	}{
		"nothing":                  {nil, nil, "give a subcommand"},
		"no such subcommand":       {[]string{"frob"}, nil, `no such subcommand: "frob"`},
		"operator, no settings":    {[]string{"operator"}, nil, "RESOURCE_PREFIX is not set"},
		"operator, no namespace":   {[]string{"operator"}, map[string]string{"RESOURCE_PREFIX": "a"}, "NAMESPACE is not set"},
		"operator, bad delay":      {[]string{"operator"}, merge(good, "STALE_NODE_STATE_CLEANUP_DELAY_MINUTES", "soon"), `"soon": want 0 or more minutes`},
		"operator, bad path":       {[]string{"operator"}, merge(good, "SRIOV_CNI_BIN_PATH", "cni/bin"), `"cni/bin": want an absolute path`},
		"operator, the whole host": {[]string{"operator"}, merge(good, "HOST_STATE_DIR", "/../"), `"/../": want an absolute path`},
		"operator, bad port":       {[]string{"operator"}, merge(good, "METRICS_EXPORTER_PORT", "70000"), `"70000": want a port`},
		"operator, bad URL":        {[]string{"operator"}, merge(good, "WEBHOOK_URL", "http://a"), `"http://a": want https://host:port`},
		"operator, no cluster":     {[]string{"operator", "-kubeconfig", "/no/such/file"}, good, "find the cluster"},
		"daemon, no node":          {[]string{"daemon"}, nil, "NODE_NAME and NAMESPACE"},
		"daemon, bad directory":    {[]string{"daemon", "-node=a", "-namespace=b"}, map[string]string{"HOST_STATE_DIR": "var/lib"}, `"var/lib": want an absolute path`},
		"daemon, no host":          {[]string{"daemon", "-node=a", "-namespace=b", "-root=/no/such"}, nil, "open the host at /no/such"},
		"leave, no namespace":      {[]string{"leave"}, nil, "NAMESPACE is not set"},
		"leave, no cluster":        {[]string{"leave", "-kubeconfig", "/no/such/file"}, good, "find the cluster"},
		"install, no target":       {[]string{"install", "sriov"}, nil, "usage: sriovkit-operator install"},
		"install, no such file":    {[]string{"install", "-to", t.TempDir(), "no-such-plugin"}, nil, "install no-such-plugin: not in /"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := call(t, tc.env, tc.args...)
			require.ErrorContains(t, err, tc.want)
		})
	}
	out, _, err := call(t, nil, "-version")
	require.NoError(t, err)
	require.Equal(t, version+"\n", out)
	_, help, err := call(t, nil, "daemon", "-h")
	require.ErrorIs(t, err, flag.ErrHelp)
	require.Contains(t, help, "pod-resources")
	require.Contains(t, help, `(default "0")`, "no metrics unless asked for")
	_, help, err = call(t, map[string]string{"KUBELET_ROOT_DIR": "/var/snap/microk8s/common/var/lib/kubelet", "HOST_STATE_DIR": "/var/lib/sriov"}, "daemon", "-h")
	require.ErrorIs(t, err, flag.ErrHelp)
	require.Contains(t, help, `(default "/var/snap/microk8s/common/var/lib/kubelet/pod-resources/kubelet.sock")`)
	require.Contains(t, help, `(default "/var/lib/sriov")`)
	_, help, err = call(t, map[string]string{"METRICS_BIND_ADDRESS": "127.0.0.1:9811"}, "daemon", "-h")
	require.ErrorIs(t, err, flag.ErrHelp)
	require.Contains(t, help, `(default "127.0.0.1:9811")`)
}

func merge(env map[string]string, k, v string) map[string]string {
	out := map[string]string{k: v}
	for k, v := range env {
		if _, ok := out[k]; !ok {
			out[k] = v
		}
	}
	return out
}

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	source, to := filepath.Join(dir, "plugin"), filepath.Join(dir, "host", "bin")
	require.NoError(t, os.WriteFile(source, []byte("one"), 0o600))
	out, _, err := call(t, nil, "install", "-to", to, source)
	require.NoError(t, err)
	target := filepath.Join(to, "plugin")
	require.Equal(t, target+" installed\n", out)
	info, err := os.Stat(target)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode())

	out, _, err = call(t, nil, "install", "-to", to, source)
	require.NoError(t, err)
	require.Equal(t, target+" is up to date\n", out)

	t.Log("an upgrade leaves who runs the old one with the old one")
	old, err := os.Open(target)
	require.NoError(t, err)
	defer old.Close()
	require.NoError(t, os.WriteFile(source, []byte("two"), 0o600))
	_, _, err = call(t, nil, "install", "-to", to, source)
	require.NoError(t, err)
	content := make([]byte, 3)
	_, err = old.Read(content)
	require.NoError(t, err)
	require.Equal(t, "one", string(content))
	now, err := os.ReadFile(target)
	require.NoError(t, err)
	require.Equal(t, "two", string(now))
	left, err := os.ReadDir(to)
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary file is left")
}

func TestSettings(t *testing.T) {
	s, err := readSettings(func(k string) string {
		return map[string]string{
			"NAMESPACE": "ns", "RESOURCE_PREFIX": "p", "IMAGE_PULL_SECRETS": "a,b", "SRIOV_CNI_BIN_PATH": "/x/",
			"STALE_NODE_STATE_CLEANUP_DELAY_MINUTES": "0", "USE_EXTERNAL_DRAINER": "true",
		}[k]
	})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, s.images.PullSecrets)
	require.Equal(t, "/x", s.CNIBinDir)
	require.Zero(t, s.KeepStaleMinutes)
	require.True(t, s.ExternalDrainer)
}

func TestResourceOfAPath(t *testing.T) {
	for path, want := range map[string]string{
		"/api/v1/nodes/a": "nodes",
		"/api/v1/nodes":   "nodes",
		"/api/v1/namespaces/default/pods/p/eviction":                                      "pods/eviction",
		"/api/v1/namespaces/default":                                                      "namespaces",
		"/apis/sriovnetwork.openshift.io/v1/namespaces/n/sriovnetworks":                   "sriovnetworks",
		"/apis/sriovnetwork.openshift.io/v1/namespaces/n/sriovnetworknodestates/a":        "sriovnetworknodestates",
		"/apis/sriovnetwork.openshift.io/v1/namespaces/n/sriovnetworknodestates/a/status": "sriovnetworknodestates/status",
		"/": "other",
		"":  "other",
	} {
		require.Equal(t, want, resource(path), path)
	}
}

// The file given, then $KUBECONFIG, then the pod's own account: as kubectl's users expect.
func TestWhichCluster(t *testing.T) {
	write := func(host string) string {
		path := filepath.Join(t.TempDir(), "config")
		content := "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u}]\nclusters: [{name: c, cluster: {server: 'https://" + host + "'}}]\n"
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	flag, env := write("flag.test"), write("env.test")
	cfg, err := restConfig(flag, func(string) string { return env })
	require.NoError(t, err)
	require.Equal(t, "https://flag.test", cfg.Host)
	cfg, err = restConfig("", func(k string) string {
		return map[string]string{"KUBECONFIG": "/no/such/file" + string(filepath.ListSeparator) + env}[k]
	})
	require.NoError(t, err)
	require.Equal(t, "https://env.test", cfg.Host)
	_, err = restConfig("", func(string) string { return "" })
	require.ErrorContains(t, err, "in-cluster")
}
