package install

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/moby/sys/atomicwriter"
)

// replace writes a file by rename unless it has that content already, and says
// whether it did.
func replace(path string, data []byte, perm fs.FileMode) (bool, error) {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, data) {
		return false, nil
	}
	return true, atomicwriter.WriteFile(path, data, perm)
}

// installBinary copies a binary into dir under each name. A running plugin
// keeps its old file; a new one finds the whole new file.
func installBinary(source, dir string, names ...string) error {
	for _, name := range names {
		if err := copyFile(source, filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("install %s: %w", name, err)
		}
	}
	return nil
}

func copyFile(source, target string) (err error) {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(out.Name()))
		}
	}()
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Chmod(0o755), out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), target)
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
	first, err := replace(filepath.Join(dir, "token"), token, 0o600)
	if err != nil {
		return false, err
	}
	text := "# Written by multus-shim install.\napiVersion: v1\nkind: Config\n" +
		"clusters:\n- name: local\n  cluster:\n    server: https://" + net.JoinHostPort(host, port) + "\n" + trust +
		"users:\n- name: multus\n  user:\n    tokenFile: token\n" +
		"contexts:\n- name: multus\n  context:\n    cluster: local\n    user: multus\ncurrent-context: multus\n"
	second, err := replace(filepath.Join(dir, filepath.Base(o.HostKubeconfig)), []byte(text), 0o600)
	return first || second, err
}

// credentialsDir is the kubeconfig's directory as mounted here.
func (o *Options) credentialsDir() string {
	return filepath.Join(o.ConfDir, filepath.Base(filepath.Dir(o.HostKubeconfig)))
}

// cleanup removes what makes the runtime use multus, in that order.
func cleanup(o *Options) error {
	var errs []error
	for _, name := range []string{listName, singleName} {
		if err := os.Remove(filepath.Join(o.ConfDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, os.RemoveAll(o.credentialsDir()))...)
}
