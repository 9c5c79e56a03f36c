// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

const (
	kubeletPort = 10250
	metricsPort = 9110 // of the device plugin, which kubectl sriov top asks
	// readyTimeout is many times what a node takes on two cores that have ten other things to do.
	readyTimeout = 10 * time.Minute
)

var (
	//go:embed files/containerd.toml
	containerdConfig string
	//go:embed files/containerd-1.toml
	containerd1Config string
	//go:embed files/kubelet.yaml
	kubeletConfig []byte
	//go:embed files/bridge.conflist
	bridgeConfig string
	//go:embed files/join.sh
	joinScript string
	//go:embed files/immutable.sh
	immutableScript string
)

// Node is a machine that is part of the cluster. Its daemons are containerd and
// kubelet; their logs are /var/log/NAME.log on the node.
type Node struct {
	*vm.VM
	Address string // InternalIP

	layout Layout
}

// join makes a booted machine a node and waits until it is Ready.
func (n *Node) join(ctx context.Context, c *Cluster, i int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not Ready within %s", readyTimeout))
	defer cancel()
	begun := time.Now()
	if err := n.configure(ctx, c, i); err != nil {
		return err
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	for _, condition := range []string{"create", "condition=Ready"} {
		if _, err := c.Kubectl(ctx, nil, "wait", "node/"+n.Name, "--for="+condition, "--timeout="+readyTimeout.String()); err != nil {
			return fmt.Errorf("wait for node %s: %w", n.Name, errors.Join(context.Cause(ctx), err))
		}
	}
	fmt.Fprintf(c.log, "%s: Ready %.1fs after it was up\n", n.Name, time.Since(begun).Seconds())
	return nil
}

// start does what a machine's init does at each boot.
func (n *Node) start(ctx context.Context) error {
	if _, err := n.Output(ctx, "env", "CNI_BIN="+n.layout.CNIBin, "sh", "-c", joinScript); err != nil {
		return err
	}
	if n.layout.Immutable {
		if _, err := n.Output(ctx, "sh", "-c", immutableScript); err != nil {
			return err
		}
	}
	if err := n.StartContainerd(ctx); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.importFile(groupCtx, "/mnt/cluster/images.tar") })
	group.Go(func() error { return n.StartKubelet(groupCtx) })
	return group.Wait()
}

// Reboot cuts the power of the node, see vm.VM.PowerCycle, and starts it again
// with its disk. It returns when kubelet answers.
func (n *Node) Reboot(ctx context.Context) error {
	if err := n.PowerCycle(ctx); err != nil {
		return err
	}
	return n.start(ctx)
}

// configure writes the files of the daemons.
func (n *Node) configure(ctx context.Context, c *Cluster, i int) error {
	credentials, err := c.Node(n.Name, n.Address)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sriovkit-join-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	runtimeConfig := containerdConfig
	if major, err := artifact.ContainerdMajor(ctx); err != nil {
		return err
	} else if major == 1 {
		runtimeConfig = containerd1Config
	}
	subnet := fmt.Sprintf("10.244.%d.0/24", i)
	for name, content := range map[string][]byte{
		"kubernetes/ca.crt":       c.CA(),
		"kubernetes/node.crt":     credentials.Cert,
		"kubernetes/node.key":     credentials.Key,
		"kubernetes/kubeconfig":   credentials.Kubeconfig,
		"kubernetes/kubelet.yaml": kubeletConfig,
		"containerd/config.toml":  n.layout.containerd(runtimeConfig),
		"cni/10-bridge.conflist":  []byte(strings.ReplaceAll(bridgeConfig, "POD_SUBNET", subnet)),
	} {
		path := filepath.Join(dir, "etc", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{"kubernetes": "/etc/kubernetes", "containerd": "/etc/containerd", "cni": n.layout.CNIConf} {
		if err := n.Push(ctx, filepath.Join(dir, "etc", name), to); err != nil {
			return err
		}
	}
	return nil
}

// StartContainerd starts containerd and waits until it answers.
func (n *Node) StartContainerd(ctx context.Context) error {
	if err := n.startDaemon(ctx, "containerd", "containerd"); err != nil {
		return err
	}
	_, err := n.Output(ctx, "sh", "-c", "until ctr version; do kill -0 $(cat /run/containerd.pid) || exit 1; sleep 0.1; done")
	if err != nil {
		return fmt.Errorf("containerd does not answer: %w", err)
	}
	return nil
}

// StartKubelet starts the kubelet and waits until it answers, for exec and logs
// as well. It registers the node on its own.
func (n *Node) StartKubelet(ctx context.Context) error {
	err := n.startDaemon(ctx, "kubelet", "kubelet", "--config=/etc/kubernetes/kubelet.yaml", "--kubeconfig=/etc/kubernetes/kubeconfig",
		"--hostname-override="+n.Name, "--node-ip="+n.Address, "--root-dir="+n.layout.KubeletRoot)
	if err != nil {
		return err
	}
	_, err = n.Output(ctx, "bash", "-c", fmt.Sprintf(
		"until busybox wget -qO- http://127.0.0.1:10248/healthz && : </dev/tcp/%s/%d; do kill -0 $(cat /run/kubelet.pid) || exit 1; sleep 0.1; done",
		n.Address, kubeletPort))
	if err != nil {
		return fmt.Errorf("kubelet does not answer: %w", err)
	}
	return nil
}

// StopKubelet ends the kubelet and waits until it is gone; pods go on.
func (n *Node) StopKubelet(ctx context.Context) error { return n.stopDaemon(ctx, "kubelet") }

func (n *Node) startDaemon(ctx context.Context, name string, args ...string) error {
	_, err := n.Output(ctx, append([]string{"sh", "-c",
		`name=$1; shift; setsid "$@" >>/var/log/$name.log 2>&1 </dev/null & echo $! >/run/$name.pid`, "sh", name}, args...)...)
	return err
}

func (n *Node) stopDaemon(ctx context.Context, name string) error {
	_, err := n.Output(ctx, "sh", "-c", `pid=$(cat /run/$1.pid); kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.05; done`, "sh", name)
	return err
}

// Import loads an image archive (OCI or docker) of this machine into the node.
func (n *Node) Import(ctx context.Context, archive string) error {
	target := "/var/tmp/import-" + filepath.Base(archive) // others may be imported at the same time
	if err := n.Push(ctx, archive, target); err != nil {
		return err
	}
	if err := n.importFile(ctx, target); err != nil {
		return err
	}
	_, err := n.Output(ctx, "rm", target)
	return err
}

func (n *Node) importFile(ctx context.Context, path string) error {
	_, err := n.Output(ctx, "ctr", "--namespace", "k8s.io", "images", "import", "--local", path)
	return err
}
