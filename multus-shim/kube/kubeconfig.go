// SPDX-License-Identifier: Apache-2.0

// Package kube is the small part of a Kubernetes client that an ADD needs: read
// a pod and NADs, patch one annotation, post an event; and that the installer
// needs to know whether it is still wanted. It speaks JSON over one
// TLS session of net/http and keeps no state between processes.
package kube

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// Credentials are what a kubeconfig says about one API server.
type Credentials struct {
	Server    *url.URL
	TLS       *tls.Config
	Token     string
	TokenFile string // read again for every process and after a 401; wins over Token
	Proxy     func(*http.Request) (*url.URL, error)
}

// serviceAccount is where Kubernetes mounts the credentials of a pod.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// Kubeconfig (https://kubernetes.io/docs/reference/config-api/kubeconfig.v1),
// as far as it is supported. Data fields are base64.
type kubeconfig struct {
	CurrentContext string `json:"current-context"`
	Contexts       []struct {
		Name    string                         `json:"name"`
		Context struct{ Cluster, User string } `json:"context"`
	} `json:"contexts"`
	Clusters []struct {
		Name    string  `json:"name"`
		Cluster cluster `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		Name string `json:"name"`
		User user   `json:"user"`
	} `json:"users"`
}

type cluster struct {
	Server        string `json:"server"`
	CA            string `json:"certificate-authority"`
	CAData        []byte `json:"certificate-authority-data"`
	Insecure      bool   `json:"insecure-skip-tls-verify"`
	TLSServerName string `json:"tls-server-name"`
	ProxyURL      string `json:"proxy-url"`
}

type user struct {
	Token        string `json:"token"`
	TokenFile    string `json:"tokenFile"`
	Cert         string `json:"client-certificate"`
	CertData     []byte `json:"client-certificate-data"`
	Key          string `json:"client-key"`
	KeyData      []byte `json:"client-key-data"`
	Exec         any    `json:"exec"`
	AuthProvider any    `json:"auth-provider"`
}

// Load reads the current context of a kubeconfig file.
func Load(path string) (*Credentials, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	c, err := parse(data, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return c, nil
}

// InCluster returns the credentials that Kubernetes gives to a pod, and false
// when the environment is not that of one.
func InCluster(getenv func(string) string) (*Credentials, bool, error) {
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, false, nil
	}
	tlsConfig, err := cluster{CA: filepath.Join(serviceAccount, "ca.crt")}.tls(user{}, "/")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return &Credentials{
		Server: &url.URL{Scheme: "https", Host: net.JoinHostPort(host, port)}, TLS: tlsConfig,
		TokenFile: filepath.Join(serviceAccount, "token"), Proxy: http.ProxyFromEnvironment,
	}, err == nil, err
}

func parse(data []byte, dir string) (*Credentials, error) {
	var k kubeconfig
	if err := json.Unmarshal(data, &k); err != nil { // ours is JSON, which takes a tenth of the time
		k = kubeconfig{}
		if err := yaml.Unmarshal(data, &k); err != nil {
			return nil, err
		}
	}
	c, u, err := k.current()
	if err != nil {
		return nil, err
	}
	server, err := url.Parse(unbracket(c.Server))
	if err != nil || server.Hostname() == "" || server.Scheme != "https" && server.Scheme != "http" {
		return nil, fmt.Errorf("server %q: want a URL such as https://10.96.0.1:443", c.Server)
	}
	if u.Exec != nil || u.AuthProvider != nil {
		return nil, errors.New("user: exec and auth-provider are not supported, use tokenFile or a client certificate")
	}
	tlsConfig, err := c.tls(u, dir)
	if err != nil {
		return nil, err
	}
	out := &Credentials{Server: server, TLS: tlsConfig, Token: u.Token, TokenFile: resolve(dir, u.TokenFile), Proxy: http.ProxyFromEnvironment}
	if c.ProxyURL != "" {
		proxy, err := url.Parse(c.ProxyURL)
		if err != nil {
			return nil, fmt.Errorf("proxy-url: %w", err)
		}
		out.Proxy = http.ProxyURL(proxy)
	}
	return out, nil
}

// unbracket takes the brackets off a host that is no IPv6 address: older installers put
// them around whatever KUBERNETES_SERVICE_HOST held, and Go's URL parser refuses
// that since 1.25.2 (CVE-2025-47912).
func unbracket(server string) string {
	scheme, rest, bracketed := strings.Cut(server, "://[")
	host, tail, closed := strings.Cut(rest, "]")
	switch {
	case !bracketed || !closed || strings.Contains(scheme, "/") || host == "" || strings.ContainsAny(host, ":/?#@[%"):
		return server
	case tail != "" && tail[0] != ':' && tail[0] != '/':
		return server
	}
	return scheme + "://" + host + tail
}

// current finds cluster and user of the current context; with a single context
// its name need not be repeated.
func (k kubeconfig) current() (c cluster, u user, err error) {
	name := k.CurrentContext
	if name == "" && len(k.Contexts) == 1 {
		name = k.Contexts[0].Name
	}
	for _, context := range k.Contexts {
		if context.Name != name {
			continue
		}
		for _, named := range k.Users {
			if named.Name == context.Context.User {
				u = named.User
			}
		}
		for _, named := range k.Clusters {
			if named.Name == context.Context.Cluster {
				return named.Cluster, u, nil
			}
		}
		return c, u, fmt.Errorf("cluster %q of context %q is not defined", context.Context.Cluster, name)
	}
	return c, u, fmt.Errorf("current-context %q is not defined", name)
}

func (c cluster) tls(u user, dir string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.Insecure, ServerName: c.TLSServerName}
	ca, err := material(c.CAData, c.CA, dir)
	if err != nil {
		return nil, fmt.Errorf("certificate-authority: %w", err)
	}
	if len(ca) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("certificate-authority: no PEM certificate in it")
		}
	}
	cert, certErr := material(u.CertData, u.Cert, dir)
	key, keyErr := material(u.KeyData, u.Key, dir)
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, fmt.Errorf("client-certificate: %w", err)
	}
	if len(cert) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("client-certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// material is inline data, else the content of a file, else nothing.
func material(data []byte, path, dir string) ([]byte, error) {
	if len(data) > 0 || path == "" {
		return data, nil
	}
	return os.ReadFile(resolve(dir, path))
}

// resolve makes paths relative to the kubeconfig absolute.
func resolve(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// token returns the bearer token to use now, "" for none.
func (c *Credentials) token() (string, error) {
	if c.TokenFile == "" {
		return c.Token, nil
	}
	data, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
