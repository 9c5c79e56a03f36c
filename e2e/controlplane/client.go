// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/e2e/process"
)

// ports are those etcd, the API server, the controller manager and the scheduler
// listen on.
var ports = []string{"2379", "2380", "6443", "10257", "10259"}

// freeAddress returns a loopback address on which nobody listens. All of
// 127.0.0.0/8 is this machine; drawing one at random leaves the ports alone.
func freeAddress() (string, error) {
	var err error
	for range 10 {
		address := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
		if err = bindable(address); err == nil {
			return address, nil
		}
	}
	return "", fmt.Errorf("find a free loopback address: %w; a program that listens on this port of all addresses has to stop, or take a network namespace (lab controlplane -namespace)", err)
}

func bindable(address string) error {
	for _, port := range ports {
		l, err := net.Listen("tcp", net.JoinHostPort(address, port))
		if err != nil {
			return err
		}
		l.Close()
	}
	return nil
}

func (c *ControlPlane) httpClient() (*http.Client, error) {
	cert, err := tls.LoadX509KeyPair(c.file("admin.crt"), c.file("admin.key"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(c.ca.cert)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}}
	if c.config.Netns != nil {
		transport.DialContext = c.config.Netns.DialContext
	}
	return &http.Client{Transport: transport, Timeout: 5 * time.Second}, nil
}

// await asks for path until the answer is 200 OK, and gives up at once when one
// of the programs ends.
func (c *ControlPlane) await(ctx context.Context, path string) error {
	for {
		err := c.get(ctx, path)
		if err == nil {
			return nil
		}
		for _, d := range c.daemons {
			select {
			case <-d.Exited():
				return d.Err()
			default:
			}
		}
		select {
		case <-ctx.Done():
			last := c.daemons[len(c.daemons)-1]
			return fmt.Errorf("%s: %w: %w\n%s", path, context.Cause(ctx), err, process.Tail(last.LogPath))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *ControlPlane) get(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return err
}

// Kubectl runs kubectl as administrator and returns what it prints. Input may be
// nil.
func (c *ControlPlane) Kubectl(ctx context.Context, input io.Reader, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(c.Programs, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &stdout, &stderr
	var ns *os.File
	if c.config.Netns != nil {
		ns = c.config.Netns.File
	}
	err := process.Start(cmd, ns)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// CA is the certificate of the authority that signed everything, PEM.
func (c *ControlPlane) CA() []byte { return c.ca.pem }

// NodeCredentials are what the kubelet of a node authenticates and serves with.
type NodeCredentials struct {
	KeyPair
	Kubeconfig []byte // for the API server at HostFromNode
}

// Node issues the credentials of a node.
func (c *ControlPlane) Node(name, address string) (NodeCredentials, error) {
	subject := pkix.Name{CommonName: "system:node:" + name, Organization: []string{"system:nodes"}}
	pair, err := c.ca.issue(subject, address, name)
	if err != nil {
		return NodeCredentials{}, err
	}
	return NodeCredentials{pair, kubeconfig("https://"+HostFromNode+":6443", c.ca.pem, pair)}, nil
}

// kubeconfig holds one cluster and one user, with everything inline.
func kubeconfig(url string, ca []byte, user KeyPair) []byte {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: sriovkit
contexts:
- name: sriovkit
  context: {cluster: sriovkit, user: sriovkit}
clusters:
- name: sriovkit
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: sriovkit
  user:
    client-certificate-data: %s
    client-key-data: %s
`, url, b64(ca), b64(user.Cert), b64(user.Key))
}
