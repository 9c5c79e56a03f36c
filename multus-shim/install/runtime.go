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

// runtimePause is the time between two requests for this pod's status, which names the runtime.
// The kubelet writes it to the API server a moment after the container has started.
const runtimePause = time.Second

// An API server may see a new role binding, or the pod itself, some seconds late. A refusal after
// that is taken for a lack of rights; the request is repeated now and then all the same, for the
// rights may be granted later.
const (
	refusalTime  = time.Minute
	refusalPause = 10 * time.Minute
)

// errRuntime: the runtime is not known yet.
var errRuntime = errors.New("the container runtime is not known yet")

// adapt chooses how the configuration stands beside the primary network's own file.
//
// CRI-O loads every file of the directory and runs CNI GC for each network, but with the pods of
// the first one alone. With two files GC of the primary network would get an empty list and
// detach all pods from before. On CRI-O the primary's file is therefore renamed, and its
// network's name used by multus-shim, so that one network has all pods.
//
// Which runtime it is, the status of this pod says. Until it does, nothing is changed, and the
// error is errRuntime. If the API server keeps refusing to tell, the configuration is written
// as for other runtimes, and the request repeated now and then.
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
