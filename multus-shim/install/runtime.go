// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/multus-shim/kube"
)

// crio is the scheme of CRI-O's container IDs in the status of pods.
const crio = "cri-o"

// runtimePause is between two questions about the runtime. The kubelet tells the API
// server of a container a moment after it has started.
const runtimePause = time.Second

// errRuntime: the runtime is not known yet.
var errRuntime = errors.New("the container runtime is not known yet")

// adapt chooses how the configuration stands beside the primary network's own file.
// CRI-O loads every file of the directory and runs CNI GC for each network, with the
// pods of the first alone: beside ours, the primary network's would be told that no pod
// lives, and pods from before would be detached. There the primary's file is renamed and
// its network's name taken over, so that one network has all pods. The status of this
// pod tells the runtime. Until it does, everything stays as it is: errRuntime.
func (in *installer) adapt(ctx context.Context) error {
	if in.Pod == "" || in.adapted || in.RenamePrimary && in.OverrideName {
		return nil
	}
	runtime, err := in.runtime(ctx)
	switch {
	case errors.Is(err, kube.ErrForbidden), errors.Is(err, kube.ErrNotFound):
		in.log.Warn("the container runtime stays unknown; if it is CRI-O, install with -rename-conf-file -override-network-name", "err", err)
	case err != nil:
		return fmt.Errorf("%w: %w", errRuntime, err)
	case runtime == "":
		return fmt.Errorf("%w: no container of pod %s has an ID", errRuntime, in.Pod)
	case runtime == crio:
		in.log.Info("CRI-O: the primary network's file is renamed and its network's name taken over")
		in.RenamePrimary, in.OverrideName = true, true
	}
	in.adapted = true
	return nil
}

func (in *installer) runtime(ctx context.Context) (string, error) {
	credentials, err := kube.Load(filepath.Join(in.credentialsDir(), filepath.Base(in.HostKubeconfig)))
	if err != nil {
		return "", err
	}
	client := kube.New(credentials)
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	namespace, name, _ := strings.Cut(in.Pod, "/") // validated with the options
	pod, err := client.Pod(ctx, namespace, name)
	if err != nil {
		return "", err
	}
	return pod.Runtime(), nil
}

// renamed reports whether the file that the configuration in force was made of was given
// another name, by whatever flags at whatever time.
func renamed(o *Options) bool {
	name := primaryInForce(inForce(o.ConfDir))
	if name == "" {
		return false
	}
	_, err := os.Lstat(filepath.Join(o.PrimaryDir, name+oldSuffix))
	return err == nil
}
