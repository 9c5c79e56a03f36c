// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sriovkit/sriovkit/e2e/process"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

// SaveLogs copies the logs of all programs and the consoles of the nodes to a
// directory that Close does not delete. The error that it returns names the directory
// and has the ends of the nodes' logs, to be joined to the error that they are wanted for.
func (c *Cluster) SaveLogs(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var files []string
	if c.ControlPlane != nil {
		files = c.Logs()
	}
	dir, err := c.cache.KeepLogs("cluster", files...)
	if err != nil {
		return err
	}
	summary := fmt.Errorf("logs are in %s", dir)
	for _, n := range c.Nodes {
		console, err := os.ReadFile(n.ConsolePath)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, n.Name+"-console.log"), console, 0o644)
		}
		summary = errors.Join(summary, err)
		for _, log := range []struct{ name, command string }{
			{"pods", "tail -n +1 /var/log/pods/*/*/*.log || true"}, // with a heading each
			{"containerd", "cat /var/log/containerd.log"},
			{"kubelet", "cat /var/log/kubelet.log"},
		} {
			path := filepath.Join(dir, n.Name+"-"+log.name+".log")
			var text bytes.Buffer
			if err := n.Run(ctx, vm.Command{Args: []string{"sh", "-c", log.command}, Stdout: &text}); err != nil {
				summary = errors.Join(summary, err)
				continue
			}
			if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
				return err
			}
			if log.name != "pods" {
				summary = fmt.Errorf("%w\n%s", summary, process.Tail(path))
			}
		}
	}
	return summary
}
