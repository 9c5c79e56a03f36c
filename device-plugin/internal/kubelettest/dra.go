// SPDX-License-Identifier: Apache-2.0

package kubelettest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
)

// draDriver is one instance of a DRA driver that has registered.
type draDriver struct {
	conn    *grpc.ClientConn
	registr string // the socket by which it did
}

// callTime bounds one call of a driver, as kubelet's does.
const callTime = 45 * time.Second

// connectDriver takes a DRA driver on. Of several instances the newest is called, as
// kubelet's plugin store has it.
func (k *Kubelet) connectDriver(name, endpoint, socket string) error {
	conn, err := dial(endpoint)
	if err != nil {
		return err
	}
	k.update(func() {
		if k.drivers == nil {
			k.drivers = map[string][]*draDriver{}
		}
		k.drivers[name] = append(k.drivers[name], &draDriver{conn, socket})
	})
	return nil
}

// forgetDriver drops an instance whose socket is gone; with the lock held.
func (k *Kubelet) forgetDriver(socket string) {
	for name, list := range k.drivers {
		k.drivers[name] = slices.DeleteFunc(list, func(d *draDriver) bool {
			if d.registr == socket {
				_ = d.conn.Close()
			}
			return d.registr == socket
		})
	}
}

// ErrNoDriver is what kubelet says of a driver that has not registered; it tries again.
var ErrNoDriver = errors.New("DRA driver is not registered")

func (k *Kubelet) draClient(name string) (dra.DRAPluginClient, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := k.drivers[name]
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoDriver, name)
	}
	return dra.NewDRAPluginClient(list[len(list)-1].conn), nil
}

// AwaitDriver waits until a driver has registered, or until none has.
func (k *Kubelet) AwaitDriver(name string, registered bool) {
	k.t.Helper()
	k.Await(func() error {
		if (len(k.drivers[name]) > 0) != registered {
			return fmt.Errorf("%d instances of %s", len(k.drivers[name]), name)
		}
		return nil
	})
}

// AwaitInstances waits until so many instances of a driver have registered.
func (k *Kubelet) AwaitInstances(name string, n int) {
	k.t.Helper()
	k.Await(func() error {
		if len(k.drivers[name]) != n {
			return fmt.Errorf("%d instances of %s, want %d", len(k.drivers[name]), name, n)
		}
		return nil
	})
}

// Prepare has a driver prepare a claim for its pod, and lists the pod's devices from then on.
// A claim that is listed stays so, whatever a later call says.
func (k *Kubelet) Prepare(driver string, claim *resourceapi.ResourceClaim) (*dra.NodePrepareResourceResponse, error) {
	client, err := k.draClient(driver)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	uid := string(claim.UID)
	r, err := client.NodePrepareResources(ctx, &dra.NodePrepareResourcesRequest{Claims: []*dra.Claim{{Namespace: claim.Namespace, Name: claim.Name, Uid: uid}}})
	if err != nil {
		return nil, err
	}
	answer := r.Claims[uid]
	if answer == nil {
		return nil, fmt.Errorf("%s says nothing of claim %s", driver, claim.Name)
	}
	if answer.Error != "" {
		return nil, errors.New(answer.Error)
	}
	k.update(func() {
		if k.prepared == nil {
			k.prepared = map[string]*podresources.PodResources{}
		}
		var devices []*podresources.ClaimResource
		for _, d := range answer.Devices {
			devices = append(devices, &podresources.ClaimResource{DriverName: driver, PoolName: d.PoolName, DeviceName: d.DeviceName})
		}
		k.prepared[uid] = &podresources.PodResources{Name: claim.Name, Namespace: claim.Namespace, Containers: []*podresources.ContainerResources{{
			Name: "main", DynamicResources: []*podresources.DynamicResource{{ClaimNamespace: claim.Namespace, ClaimName: claim.Name, ClaimResources: devices}},
		}}}
	})
	return answer, nil
}

// Unprepare ends a claim's pod: it has the driver take back what it prepared.
func (k *Kubelet) Unprepare(driver string, claim *resourceapi.ResourceClaim) error {
	client, err := k.draClient(driver)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	uid := string(claim.UID)
	r, err := client.NodeUnprepareResources(ctx, &dra.NodeUnprepareResourcesRequest{Claims: []*dra.Claim{{Namespace: claim.Namespace, Name: claim.Name, Uid: uid}}})
	if err != nil {
		return err
	}
	if e := r.Claims[uid].GetError(); e != "" {
		return errors.New(e)
	}
	k.update(func() { delete(k.prepared, uid) })
	return nil
}

// Forget is a kubelet that has lost its checkpoint: it knows of no claim.
func (k *Kubelet) Forget() { k.update(func() { k.prepared = nil }) }

// Reactions are what a fake API server does first. Unlike those of client-go's chain they may
// be added while it is in use.
type Reactions struct {
	mu   sync.Mutex
	list []clienttesting.Reactor
}

// Add puts a reaction before the others; verb and resource may be "*".
func (r *Reactions) Add(verb, resource string, f clienttesting.ReactionFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append([]clienttesting.Reactor{&clienttesting.SimpleReactor{Verb: verb, Resource: resource, Reaction: f}}, r.list...)
}

func (r *Reactions) react(a clienttesting.Action) (handled bool, out runtime.Object, err error) {
	r.mu.Lock()
	list := r.list
	r.mu.Unlock()
	for _, one := range list {
		if !one.Handles(a) {
			continue
		}
		if handled, out, err = one.React(a); handled {
			break
		}
	}
	return handled, out, err
}

// NameSlices has a fake API server name ResourceSlices as a real one does, and store none in a
// dry run. What is added to the reactions comes before.
func NameSlices(api *fake.Clientset) *Reactions {
	var first Reactions
	api.PrependReactor("create", "resourceslices", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if s := a.(clienttesting.CreateAction).GetObject().(*resourceapi.ResourceSlice); s.Name == "" {
			s.Name = s.GenerateName + rand.String(5)
		}
		dry, ok := a.(interface{ GetCreateOptions() metav1.CreateOptions })
		if ok && len(dry.GetCreateOptions().DryRun) > 0 {
			return true, a.(clienttesting.CreateAction).GetObject(), nil
		}
		return false, nil, nil
	})
	api.PrependReactor("*", "*", first.react)
	return &first
}
