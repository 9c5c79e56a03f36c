// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/dynamic-resource-allocation/resourceslice"
)

// publisher keeps the node's ResourceSlices as they were last wanted, by the library's
// controller, and knows whether they are.
type publisher struct {
	driver, node string
	client       kubernetes.Interface
	log          *slog.Logger
	// failed is told what the controller could not do; it tries again.
	failed func(err error, doing string)

	changed chan struct{} // wanted has changed

	mu      sync.Mutex
	nodeUID types.UID
	wanted  resourceslice.DriverResources
	// Versions of wanted: the last one, the controller's, the one that it had when it began
	// to compare, and the one that is in the API server. 0 is none.
	version, handed, begun, stored int
	err                            error // of the last comparison
}

// want has slices published; nodeUID is the Node's, which owns them.
func (p *publisher) want(nodeUID types.UID, resources resourceslice.DriverResources) {
	p.mu.Lock()
	p.nodeUID, p.wanted = nodeUID, resources
	p.version++
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default: // it is said already
	}
}

// published is nil if the slices are in the API server as they are wanted.
func (p *publisher) published() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.version == 0:
		return errors.New("nothing is to be published yet")
	case p.err != nil:
		return fmt.Errorf("slices are not published, and it is tried again: %w", p.err)
	case p.stored != p.version:
		return errors.New("slices are being published")
	}
	return nil
}

// run publishes until ctx ends. It fails if the controller cannot begin.
func (p *publisher) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-p.changed:
	}
	if err := p.createFirst(ctx); err != nil && ctx.Err() == nil {
		p.log.Warn("slices are not made at once; the controller makes them", "err", err)
	}
	c, err := p.start(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("controller of ResourceSlices: %w", err)
	}
	defer c.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.changed:
		}
		p.mu.Lock() // the controller begins no comparison between the two
		c.Update(&p.wanted)
		p.handed = p.version
		p.mu.Unlock()
	}
}

// start starts the controller, which takes a second or more: it waits for its cache.
func (p *publisher) start(ctx context.Context) (*resourceslice.Controller, error) {
	p.mu.Lock()
	wanted, uid := p.wanted, p.nodeUID
	p.handed = p.version
	p.mu.Unlock()
	return resourceslice.StartController(ctx, resourceslice.Options{
		DriverName: p.driver, KubeClient: p.client, Resources: &wanted,
		Owner:        &resourceslice.Owner{APIVersion: "v1", Kind: "Node", Name: p.node, UID: uid},
		Queue:        comparisons{newQueue(), p},
		ErrorHandler: p.fail,
	})
}

// Pauses between attempts to publish.
const firstPause, longestPause = 5 * time.Millisecond, 10 * time.Second

func newQueue() workqueue.TypedRateLimitingInterface[string] {
	return workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstPause, longestPause),
		workqueue.TypedRateLimitingQueueConfig[string]{Name: "slices"})
}

func (p *publisher) fail(_ context.Context, err error, doing string) {
	if !errors.As(err, new(*resourceslice.DroppedFieldsError)) { // that is no failure
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
	}
	p.failed(err, doing)
}

// comparisons is the work queue of the slices' controller, wrapped to learn what the controller
// does not report: when it begins to compare the slices with what is wanted, and when it has
// done so without an error.
type comparisons struct {
	workqueue.TypedRateLimitingInterface[string]
	p *publisher
}

// Get begins a comparison.
func (c comparisons) Get() (string, bool) {
	pool, ended := c.TypedRateLimitingInterface.Get()
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.begun, c.p.err = c.p.handed, nil
	return pool, ended
}

// Forget ends a comparison after which nothing is left to do.
func (c comparisons) Forget(pool string) {
	c.TypedRateLimitingInterface.Forget(pool)
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.p.err == nil && c.p.stored != c.p.begun {
		c.p.stored = c.p.begun
		devices := 0
		slices := c.p.wanted.Pools[c.p.node].Slices
		for _, s := range slices {
			devices += len(s.Devices)
		}
		c.p.log.Info("published", "slices", len(slices), "devices", devices)
	}
}

const (
	firstTime   = time.Minute // bounds createFirst
	firstBeside = 4           // slices made beside each other
)

// createFirst makes the slices of a node that has none yet. The controller waits a whole
// second for its cache and then makes one after the other; here 1 024 devices are there in a
// fraction of that. It takes these for its own, by their names
// (resourceslice.Controller, encodeIndex), and mends what is not as it should be. Slices with
// taints are left to the controller, which notices an API server that drops them.
func (p *publisher) createFirst(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firstTime)
	defer cancel()
	api := p.client.ResourceV1().ResourceSlices()
	there, err := api.List(ctx, metav1.ListOptions{Limit: 1, FieldSelector: fields.Set{
		resourceapi.ResourceSliceSelectorDriver: p.driver, resourceapi.ResourceSliceSelectorNodeName: p.node,
	}.String()})
	if err != nil || len(there.Items) > 0 {
		return err
	}
	p.mu.Lock()
	slices, uid := p.wanted.Pools[p.node].Slices, p.nodeUID
	p.mu.Unlock()
	for _, s := range slices {
		for _, d := range s.Devices {
			if len(d.Taints) > 0 {
				return nil
			}
		}
	}
	var group errgroup.Group
	group.SetLimit(firstBeside)
	for i, s := range slices {
		slice := &resourceapi.ResourceSlice{Spec: resourceapi.ResourceSliceSpec{
			Driver: p.driver, NodeName: &p.node, Devices: s.Devices,
			Pool: resourceapi.ResourcePool{Name: p.node, Generation: 1, ResourceSliceCount: int64(len(slices))},
		}}
		slice.GenerateName = fmt.Sprintf("%05x-%s-%s-", i, p.driver, p.node)
		slice.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: p.node, UID: uid, Controller: new(true)}}
		group.Go(func() error {
			_, err := api.Create(ctx, slice, metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	p.log.Info("first slices are made", "slices", len(slices))
	return nil
}
