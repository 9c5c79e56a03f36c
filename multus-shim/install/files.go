package install

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/moby/sys/atomicwriter"
)

// tokenName is the token's file beside the kubeconfig.
const tokenName = "token"

// replace writes a file by rename unless it has that content already, and says
// whether it did.
func replace(path string, data []byte, perm fs.FileMode) (bool, error) {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, data) {
		return false, nil
	}
	return true, atomicwriter.WriteFile(path, data, perm)
}

// credentials copies the service account's token and writes the kubeconfig that
// leads to it. Kubernetes replaces tokens before they expire; the plugin reads
// the file anew for every pod.
func credentials(o *Options, getenv func(string) string) (changed bool, err error) {
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return false, errors.New("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: run this in a pod")
	}
	token, err := os.ReadFile(filepath.Join(o.ServiceAccount, "token"))
	if err != nil {
		return false, err
	}
	trust := "    insecure-skip-tls-verify: true\n"
	if !o.SkipTLSVerify {
		ca, err := os.ReadFile(filepath.Join(o.ServiceAccount, "ca.crt"))
		if err != nil {
			return false, err
		}
		trust = "    certificate-authority-data: " + base64.StdEncoding.EncodeToString(ca) + "\n"
	}
	dir := o.credentialsDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	first, err := replace(filepath.Join(dir, tokenName), token, 0o600)
	if err != nil {
		return false, err
	}
	text := "# Written by multus-shim install.\napiVersion: v1\nkind: Config\n" +
		"clusters:\n- name: local\n  cluster:\n    server: https://" + net.JoinHostPort(host, port) + "\n" + trust +
		"users:\n- name: multus\n  user:\n    tokenFile: " + tokenName + "\n" +
		"contexts:\n- name: multus\n  context:\n    cluster: local\n    user: multus\ncurrent-context: multus\n"
	second, err := replace(filepath.Join(dir, filepath.Base(o.HostKubeconfig)), []byte(text), 0o600)
	return first || second, err
}

// credentialsDir is the kubeconfig's directory as mounted here.
func (o *Options) credentialsDir() string {
	return filepath.Join(o.ConfDir, filepath.Base(filepath.Dir(o.HostKubeconfig)))
}
