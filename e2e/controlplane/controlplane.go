// SPDX-License-Identifier: Apache-2.0

// Package controlplane runs a real Kubernetes control plane as plain processes:
// etcd and kube-apiserver, ready in about three seconds, and on request the
// controller manager and the scheduler. It listens on loopback only, needs no
// privileges, and is gone when the process that started it ends.
//
// It is what tests of controllers and webhooks want; package cluster adds nodes.
package controlplane

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/netns"
	"github.com/sriovkit/sriovkit/e2e/process"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// startTimeout is many times what starting takes on two busy cores.
const startTimeout = 10 * time.Minute

// ServiceHost is the address at which pods reach the API server.
const ServiceHost = "10.96.0.1"

// Config says what to run. The zero value is etcd and kube-apiserver.
type Config struct {
	// Controllers adds kube-controller-manager and kube-scheduler.
	Controllers bool
	// Netns to run in; nil is the caller's. In a namespace of its own the control
	// plane has 127.0.0.1, else an address of its own in 127.0.0.0/8, so that any
	// number of them run beside each other on the usual ports.
	Netns *netns.Namespace
	// ServerFlags are added to kube-apiserver's.
	ServerFlags []string
	Log         io.Writer // progress; nil is os.Stderr
}

// ControlPlane is a running control plane.
type ControlPlane struct {
	URL        string // of the API server
	Kubeconfig string // path; its user is in system:masters
	Programs   string // directory with kubectl, kubelet, etcd and the others

	ca      *authority
	address string
	config  Config
	client  *http.Client
	scratch *process.Scratch
	daemons []*process.Daemon // in the order of their start
}

// Programs returns the directory with etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, kubelet and kubectl, and builds them
// if need be, which takes 6 to 10 minutes once.
func Programs(ctx context.Context, log io.Writer) (string, error) {
	cache, err := stage.Open(log)
	if err != nil {
		return "", err
	}
	return artifact.BuildKubernetes(ctx, cache)
}

// Start starts a control plane and returns when it serves: /readyz is ok and,
// with controllers, pods can be created in namespace default.
func Start(ctx context.Context, config Config) (*ControlPlane, error) {
	if config.Log == nil {
		config.Log = os.Stderr
	}
	cache, err := stage.Open(config.Log)
	if err != nil {
		return nil, err
	}
	programs, err := artifact.BuildKubernetes(ctx, cache)
	if err != nil {
		return nil, err
	}
	scratch, err := process.NewScratch(filepath.Join(cache.Dir, "run"), "controlplane")
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{Programs: programs, config: config, scratch: scratch}
	if err := c.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("start control plane: %w", err), c.Close())
		}
		kept, keepErr := cache.KeepLogs("controlplane", c.Logs()...)
		return nil, errors.Join(fmt.Errorf("start control plane: %w\nlogs are in %s", err, kept), keepErr, c.Close())
	}
	return c, nil
}

func (c *ControlPlane) start(ctx context.Context) (err error) {
	begun := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready within %s", startTimeout))
	defer cancel()
	c.address = "127.0.0.1"
	if c.config.Netns == nil {
		if c.address, err = freeAddress(); err != nil {
			return err
		}
	}
	c.URL = "https://" + c.address + ":6443"
	if err := c.writeFiles(); err != nil {
		return err
	}
	if err := c.launch("etcd", c.etcdFlags()); err != nil {
		return err
	}
	if err := c.launch("kube-apiserver", c.apiserverFlags()); err != nil {
		return err
	}
	if err := c.await(ctx, "/readyz"); err != nil {
		return err
	}
	if c.config.Controllers {
		for name, flags := range map[string][]string{
			"kube-controller-manager": c.controllerManagerFlags(),
			"kube-scheduler":          c.schedulerFlags(),
		} {
			if err := c.launch(name, flags); err != nil {
				return err
			}
		}
		// Admission refuses pods until the controllers have made this one.
		if err := c.await(ctx, "/api/v1/namespaces/default/serviceaccounts/default"); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.config.Log, "control plane: ready after %.1fs at %s\n", time.Since(begun).Seconds(), c.URL)
	return nil
}

func (c *ControlPlane) file(name string) string { return filepath.Join(c.scratch.Dir, name) }

// writeFiles makes keys, certificates and kubeconfigs, and the client that waits
// for readiness.
func (c *ControlPlane) writeFiles() (err error) {
	if c.ca, err = newAuthority(); err != nil {
		return err
	}
	if err := os.WriteFile(c.file("ca.crt"), c.ca.pem, 0o644); err != nil {
		return err
	}
	for name, subject := range map[string]pkix.Name{
		"admin":                   {CommonName: "admin", Organization: []string{"system:masters"}},
		"kube-controller-manager": {CommonName: "system:kube-controller-manager"},
		"kube-scheduler":          {CommonName: "system:kube-scheduler"},
	} {
		pair, err := c.ca.issue(subject)
		if err != nil {
			return err
		}
		if err := c.writePair(name, pair); err != nil {
			return err
		}
		if err := os.WriteFile(c.file(name+".kubeconfig"), kubeconfig(c.URL, c.ca.pem, pair), 0o600); err != nil {
			return err
		}
	}
	c.Kubeconfig = c.file("admin.kubeconfig")
	server, err := c.ca.issue(pkix.Name{CommonName: "kube-apiserver"}, c.address, "127.0.0.1", HostFromNode, ServiceHost,
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
	if err != nil {
		return err
	}
	if err := c.writePair("kube-apiserver", server); err != nil {
		return err
	}
	accounts, err := c.ca.issue(pkix.Name{CommonName: "service accounts"})
	if err != nil {
		return err
	}
	if err := c.writePair("service-accounts", accounts); err != nil {
		return err
	}
	c.client, err = c.httpClient()
	return err
}

func (c *ControlPlane) writePair(name string, p KeyPair) error {
	return errors.Join(
		os.WriteFile(c.file(name+".crt"), p.Cert, 0o644),
		os.WriteFile(c.file(name+".key"), p.Key, 0o600))
}

func (c *ControlPlane) launch(name string, flags []string) error {
	cmd := exec.Command(filepath.Join(c.Programs, name), flags...)
	cmd.Dir = c.scratch.Dir
	var ns *os.File
	if c.config.Netns != nil {
		ns = c.config.Netns.File
	}
	d, err := process.StartDaemon(name, c.scratch.Dir, cmd, ns)
	if err == nil {
		c.daemons = append(c.daemons, d)
	}
	return err
}

// Logs returns the paths of the programs' logs; Close deletes them.
func (c *ControlPlane) Logs() []string {
	var paths []string
	for _, d := range c.daemons {
		paths = append(paths, d.LogPath)
	}
	return paths
}

// Close ends all programs and deletes their data and logs. It is safe to call
// more than once.
func (c *ControlPlane) Close() error {
	for len(c.daemons) > 0 { // the last started first; nothing they could save is kept
		last := len(c.daemons) - 1
		c.daemons[last].Kill()
		c.daemons = c.daemons[:last]
	}
	return c.scratch.Remove()
}
