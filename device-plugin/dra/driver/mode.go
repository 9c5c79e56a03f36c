// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
)

// LabelMode on the Node says what the driver is to do there.
const LabelMode = "sriovkit.io/resource-mode"

// mode is what the Node's label asks for.
type mode string

const (
	modeUnknown mode = "" // the Node was not read yet: nothing is published
	modeServe   mode = "dra"
	// modeLeaving: the node goes back to the device plugin. Nothing is offered any more, and
	// claims that are allocated already are prepared.
	modeLeaving mode = "dra-leaving"
	// modeRest: the device plugin offers the node's VFs. Only what was prepared before is
	// looked after.
	modeRest mode = "dra-rest"
)

// next is the mode after a look at the Node. A node without a label was never asked for
// another mode, or the driver's pod is about to go.
func (m mode) next(label string) mode {
	switch asked := mode(label); {
	case asked == modeServe, asked == modeLeaving, asked == modeRest:
		return asked
	case m == modeLeaving || m == modeRest:
		return modeRest
	}
	return modeServe
}

// errLeft is why a claim is not prepared in modeRest.
var errLeft = errors.New("the node has gone back to the device plugin and prepares no further claims: delete the pod, and it is scheduled anew")

// errUnread is why a claim is not prepared in modeUnknown.
var errUnread = errors.New("the Node's label is not read yet; kubelet asks again (does the API server answer, and may the driver get and watch nodes?)")

// watchPause is the pause after a watch of the Node that failed.
const watchPause = 2 * time.Second

// WatchMode follows the Node's label until ctx ends. Nothing is published before the first
// look, for a node that is leaving must not offer its devices again after a restart.
func (d *Driver) WatchMode(ctx context.Context) error {
	said := ""
	for ctx.Err() == nil {
		err := d.watchNode(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			d.log.Warn("the Node's label is not followed; it is asked for again and again", "label", LabelMode, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
	return nil
}

// watchNode reads the Node and then its changes, until the watch ends.
func (d *Driver) watchNode(ctx context.Context) error {
	nodes := d.opts.Client.CoreV1().Nodes()
	node, err := nodes.Get(ctx, d.opts.Node, metav1.GetOptions{})
	if err != nil { // also Forbidden: a node that cannot be read may be one that is leaving
		return err
	}
	d.askTaints(ctx)
	d.setMode(node)
	w, err := nodes.Watch(ctx, metav1.ListOptions{
		FieldSelector:   fields.OneTermEqualSelector(metav1.ObjectNameField, d.opts.Node).String(),
		ResourceVersion: node.ResourceVersion,
	})
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		var e watch.Event
		select {
		case <-ctx.Done():
			return nil
		case e = <-w.ResultChan():
		}
		changed, ok := e.Object.(*corev1.Node)
		if !ok || e.Type == watch.Deleted {
			return nil // it ended, or an error such as a version that is too old
		}
		d.setMode(changed)
	}
}

func (d *Driver) setMode(node *corev1.Node) {
	d.mu.Lock()
	was := d.mode
	d.mode, d.nodeUID = was.next(node.Labels[LabelMode]), node.UID
	now := d.mode
	if now != was {
		close(d.modeChanged)
		d.modeChanged = make(chan struct{})
	}
	d.mu.Unlock()
	if now == was {
		return
	}
	d.log.Info("mode of the node", "mode", string(now))
	d.publish()
}

// Serves reports whether the node's devices are this driver's, and not the device plugin's;
// changed is closed when that may be different.
func (d *Driver) Serves() (serves bool, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mode == modeServe || d.mode == modeLeaving, d.modeChanged
}

// takesClaims tells why no further claim is prepared.
func (d *Driver) takesClaims() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch d.mode {
	case modeUnknown:
		return errUnread
	case modeRest:
		return errLeft
	case modeServe, modeLeaving:
	}
	return nil
}
