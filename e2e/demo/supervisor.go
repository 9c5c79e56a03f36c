// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sriovkit/sriovkit/e2e/cluster"
)

// Files in the demo's directory, which exists while the supervisor does.
const (
	lockFile       = "lock" // held by the supervisor, whose pid is in it
	socketFile     = "control.sock"
	kubeconfigFile = "kubeconfig"
	logFile        = "supervisor.log"
)

// Supervise starts a cluster and keeps it until somebody calls Down or ctx ends;
// then nothing of it is left. Progress goes to log and, until the cluster is
// ready, to starter. It is the background process of a demo: the cluster is made
// of its children, which die with it. It is given the lock of the directory.
func Supervise(ctx context.Context, dir string, log io.Writer, starter io.WriteCloser, lock *os.File) (err error) {
	if err := isLock(lock, dir); err != nil {
		return err
	}
	out := io.MultiWriter(log, starter)
	defer starter.Close()
	defer func() {
		if err != nil {
			fmt.Fprintln(out, err)
		}
	}()
	defer func() { err = errors.Join(err, os.RemoveAll(dir), lock.Close()) }()
	k, err := cluster.Start(ctx, cluster.Config{Log: out})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	api, err := expose(k, filepath.Join(dir, kubeconfigFile))
	if err != nil {
		return err
	}
	defer api.Close()

	s := &supervisor{cluster: k, imported: map[string][sha256.Size]byte{}, down: make(chan struct{})}
	server := rpc.NewServer()
	if err := server.RegisterName("Demo", &Control{s}); err != nil {
		return err
	}
	control, err := net.Listen("unix", filepath.Join(dir, socketFile))
	if err != nil {
		return err
	}
	defer control.Close()
	go server.Accept(control)
	starter.Close() // the cluster is ready
	select {
	case <-ctx.Done():
	case <-s.down:
	}
	return nil
}

// isLock is an error unless the file is the lock of the directory, which is to be removed with
// all that is in it: not so if somebody starts a supervisor by hand.
func isLock(lock *os.File, dir string) error {
	mine, err := lock.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(filepath.Join(dir, lockFile)); err != nil || !os.SameFile(mine, there) {
		return errors.Join(fmt.Errorf("%s is not the directory of a demo that is being started", dir), err)
	}
	return nil
}

// expose makes the API server, which listens in a network namespace of its own,
// reachable at a port of this machine's loopback, and writes a kubeconfig for it.
func expose(k *cluster.Cluster, kubeconfig string) (net.Listener, error) {
	server, err := url.Parse(k.URL)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(k.Kubeconfig)
	if err == nil {
		local := strings.ReplaceAll(string(text), k.URL, "https://"+l.Addr().String())
		err = os.WriteFile(kubeconfig, []byte(local), 0o600)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed
			}
			go forward(k, client, server.Host)
		}
	}()
	return l, nil
}

func forward(k *cluster.Cluster, client net.Conn, address string) {
	defer client.Close()
	upstream, err := k.Netns().DialContext(context.Background(), "tcp", address)
	if err != nil {
		return // the client sees a closed connection
	}
	defer upstream.Close()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{client, upstream}, {upstream, client}} {
		go func() {
			io.Copy(pair[0], pair[1]) //nolint:errcheck // either end may go at any time
			done <- struct{}{}
		}()
	}
	<-done
}

type supervisor struct {
	cluster  *cluster.Cluster
	down     chan struct{}
	downOnce sync.Once

	mu       sync.Mutex
	imported map[string][sha256.Size]byte // by path of the archive
}

// Control is what the foreground asks of the supervisor, in the form that net/rpc
// wants: request, answer, error.
type Control struct{ s *supervisor }

// Import loads an image archive into the nodes; changed is whether it is another one than
// before.
func (c *Control) Import(archive string, changed *bool) error {
	content, err := os.ReadFile(archive)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	c.s.mu.Lock()
	*changed = sum != c.s.imported[archive]
	c.s.mu.Unlock()
	if !*changed {
		return nil
	}
	if err := c.s.cluster.Import(context.Background(), archive); err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.imported[archive] = sum
	return nil
}

// Run runs a command on the node and answers with what it prints.
func (c *Control) Run(args []string, output *string) (err error) {
	*output, err = c.s.cluster.Nodes[0].Output(context.Background(), args...)
	return err
}

// SaveLogs keeps the logs of everything and answers with where they are.
func (c *Control) SaveLogs(_ struct{}, where *string) error {
	// What follows are the last lines of kubelet and containerd, which are full of
	// failures that did not matter.
	*where, _, _ = strings.Cut(c.s.cluster.SaveLogs(context.Background()).Error(), "\n")
	return nil
}

// Down ends the demo; the caller waits for the lock.
func (c *Control) Down(struct{}, *struct{}) error {
	c.s.downOnce.Do(func() { close(c.s.down) })
	return nil
}
