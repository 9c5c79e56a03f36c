// SPDX-License-Identifier: Apache-2.0

package install

import (
	"cmp"
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

// A role binding, or the pod itself, may come to an API server some seconds after the first
// question. Later a refusal is what it looks like, which somebody may mend at any time.
const (
	refusalTime  = time.Minute
	refusalPause = 10 * time.Minute
)

// errRuntime: the runtime is not known yet.
var errRuntime = errors.New("the container runtime is not known yet")

// adapt chooses how the configuration stands beside the primary network's own file. CRI-O
// loads every file of the directory and runs CNI GC for each network, with the pods of the
// first alone: beside multus-shim's, the primary network's would be told that no pod lives,
// and pods from before would be detached. There the primary's file is renamed and its
// network's name taken over, so that one network has all pods. The status of this pod tells
// the runtime. Until it does, everything stays as it is: errRuntime. Where the API server
// keeps refusing, the node gets its configuration without, and it is asked now and then.
func (in *installer) adapt(ctx context.Context) error {
	if in.Pod == "" || in.adapted || in.RenamePrimary && in.OverrideName {
		return nil
	}
	if in.refused && in.now().Before(in.nextAsk) {
		return nil
	}
	runtime, err := in.runtime(ctx)
	if err == nil && runtime == "" {
		err = fmt.Errorf("no container of pod %s has an ID", in.Pod)
	}
	if err != nil {
		return in.untold(err)
	}
	if runtime == crio {
		in.log.Info("CRI-O: the primary network's file is renamed and its network's name taken over")
		in.RenamePrimary, in.OverrideName = true, true
	}
	in.adapted = true
	return nil
}

// untold decides whether to go on without an answer: errRuntime if not.
func (in *installer) untold(err error) error {
	now := in.now()
	if !in.refused {
		if !errors.Is(err, kube.ErrForbidden) && !errors.Is(err, kube.ErrNotFound) {
			in.refusedSince = time.Time{}
			return fmt.Errorf("%w: %w", errRuntime, err)
		}
		if in.refusedSince.IsZero() {
			in.refusedSince = now
		}
		if now.Sub(in.refusedSince) < cmp.Or(in.refusals, refusalTime) {
			return fmt.Errorf("%w: %w", errRuntime, err)
		}
		in.log.Warn("the container runtime stays unknown; if it is CRI-O, install with -rename-conf-file -override-network-name", "err", err)
		in.refused = true
	}
	in.nextAsk = now.Add(cmp.Or(in.askAgain, refusalPause))
	return nil
}

// wait is the time until something is to be done though nothing has changed, 0 for none.
func (in *installer) wait() time.Duration {
	wait := in.files.wait()
	if in.refused && !in.adapted {
		if ask := max(in.nextAsk.Sub(in.now()), time.Millisecond); wait == 0 || ask < wait {
			wait = ask
		}
	}
	return wait
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
