// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"
)

// tokenName is the token's file beside the kubeconfig.
const tokenName = "token"

const (
	// firstPause is how long a file is left alone after somebody else had changed
	// it; each further time within calm doubles that, up to maxPause.
	firstPause = time.Second
	maxPause   = time.Minute
	calm       = 10 * time.Minute
)

// files writes files that others may write, too, without a race of rewrites.
type files struct {
	log      *slog.Logger
	now      func() time.Time
	written  map[string][]byte
	disputes map[string]*dispute
}

// dispute is the state of a file that another program keeps changing: how often, and since when.
type dispute struct {
	last, next time.Time
	pause      time.Duration
	waiting    bool
}

// write replaces a file by rename unless it has that content already. If this process has
// written that content before, another program has changed the file since: it is written again
// at once the first time, and after a pause that doubles each further time.
func (f *files) write(path string, data []byte) error {
	have, err := readOwn(path)
	if err == nil && bytes.Equal(have, data) {
		f.settle(path)
		return nil
	}
	if bytes.Equal(f.written[path], data) && !f.mayRetry(path, have) {
		return nil
	}
	const perm = 0o600
	if err := replace(path, perm, bytes.NewReader(data)); err != nil {
		return err
	}
	if f.written == nil {
		f.written = map[string][]byte{}
	}
	f.written[path] = bytes.Clone(data)
	f.log.Info("wrote", "file", path)
	return nil
}

// readOwn reads a file that was written here. A link or a pipe in its place is none: it is
// replaced.
func readOwn(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: no regular file", path)
	}
	return os.ReadFile(path)
}

// replace writes a file under a temporary name, syncs it and renames it over what has the name.
func replace(path string, mode fs.FileMode, content io.Reader) (err error) {
	out, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(out.Name()))
		}
	}()
	_, err = io.Copy(out, content)
	if err = errors.Join(err, out.Chmod(mode), out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), path)
}

// material reads a file of the service account. An empty one is an error: it would replace a
// good one on the node.
func material(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err == nil && len(bytes.TrimSpace(data)) == 0 {
		err = fmt.Errorf("%s is empty", path)
	}
	return data, err
}

// rename moves a file that somebody else may write again.
func (f *files) rename(from, to string) error {
	key := from + " -> " + to
	if _, before := f.written[key]; before && !f.mayRetry(key, nil) {
		return nil
	}
	if f.written == nil {
		f.written = map[string][]byte{}
	}
	f.written[key] = nil
	return os.Rename(from, to)
}

// mayRetry reports whether the pause is over after which another program's change is undone.
func (f *files) mayRetry(path string, have []byte) bool {
	if f.disputes == nil {
		f.disputes = map[string]*dispute{}
	}
	d, now := f.disputes[path], f.now()
	if d == nil || now.Sub(d.last) > calm {
		d = &dispute{pause: firstPause}
		f.disputes[path] = d
	}
	if now.Before(d.next) {
		d.waiting = true
		return false
	}
	d.last, d.next, d.waiting = now, now.Add(d.pause), false
	f.log.Warn("somebody else changes a file of ours, writing it again", "file", path, "writer", writer(path, have), "not again before", d.pause)
	d.pause = min(2*d.pause, maxPause)
	return true
}

func (f *files) settle(path string) {
	if d := f.disputes[path]; d != nil {
		d.waiting = false
	}
}

// wait is the time until the first disputed file may be written again, 0 for none.
func (f *files) wait() time.Duration {
	var wait time.Duration
	for _, d := range f.disputes {
		if left := max(d.next.Sub(f.now()), time.Millisecond); d.waiting && (wait == 0 || left < wait) {
			wait = left
		}
	}
	return wait
}

// writer names the program that keeps changing a file, as far as the file's content shows it.
func writer(path string, have []byte) string {
	if _, err := os.Stat(path + ".cilium_bak"); err == nil {
		return "Cilium renames it: set cni.exclusive to false there"
	}
	var c struct{ Type, Name string }
	switch {
	case have == nil:
		return "unknown, the file is gone"
	case json.Unmarshal(have, &c) == nil && c.Type != "":
		return "an installer of plugin type " + c.Type + ", network " + c.Name
	}
	return "unknown"
}

// credentials copies the service account's token and writes the kubeconfig that
// names it. Kubernetes replaces tokens before they expire; the plugin reads the file anew for
// every pod. A token ends with the installer's pod. While two installers run, as in a rolling
// update, both write their own from time to time; once one has ended the other's stays.
func (in *installer) credentials() error {
	host, port := in.getenv("KUBERNETES_SERVICE_HOST"), in.getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return errors.New("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: run this in a pod")
	}
	token, err := material(filepath.Join(in.ServiceAccount, "token"))
	if err != nil {
		return err
	}
	cluster := map[string]any{"server": "https://" + net.JoinHostPort(host, port)}
	if in.SkipTLSVerify {
		cluster["insecure-skip-tls-verify"] = true
	} else if cluster["certificate-authority-data"], err = material(filepath.Join(in.ServiceAccount, "ca.crt")); err != nil {
		return err
	}
	dir := in.credentialsDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := in.files.write(filepath.Join(dir, tokenName), token); err != nil {
		return err
	}
	// JSON is YAML, and what the plugin reads at every command.
	text, err := json.MarshalIndent(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "multus",
		"clusters": []any{map[string]any{"name": "local", "cluster": cluster}},
		"users":    []any{map[string]any{"name": "multus", "user": map[string]string{"tokenFile": tokenName}}},
		"contexts": []any{map[string]any{"name": "multus", "context": map[string]string{"cluster": "local", "user": "multus"}}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return in.files.write(filepath.Join(dir, filepath.Base(in.HostKubeconfig)), append(text, '\n'))
}

// credentialsDir is the kubeconfig's directory as mounted here.
func (o *Options) credentialsDir() string {
	return filepath.Join(o.ConfDir, filepath.Base(filepath.Dir(o.HostKubeconfig)))
}

// sameFile reports whether a file is still the one that was left there.
func sameFile(path string, left fs.FileInfo) bool {
	now, err := os.Stat(path)
	return err == nil && left != nil && os.SameFile(now, left) && now.Size() == left.Size() && now.ModTime().Equal(left.ModTime())
}
