// SPDX-License-Identifier: Apache-2.0

package apiclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// NewInformer makes the informers of the manager's cache. That of node states decodes
// its events itself: they are the bulk of what an operator of thousands of nodes reads,
// and client-go goes over each seven times (frame, event, kind, object, each checked
// first). Once over is five times cheaper.
func NewInformer(cfg *rest.Config, scheme *runtime.Scheme, namespace string) (
	func(toolscache.ListerWatcher, runtime.Object, time.Duration, toolscache.Indexers) toolscache.SharedIndexInformer, error,
) {
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	gvk := v1.GroupVersion.WithKind("SriovNetworkNodeState")
	api, err := apiutil.RESTClientForGVK(gvk, true, false, cfg, serializer.NewCodecFactory(scheme), hc)
	if err != nil {
		return nil, err
	}
	params := runtime.NewParameterCodec(scheme)
	states := func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
		opts.Watch, opts.AllowWatchBookmarks = true, true
		body, err := api.Get().Namespace(namespace).Resource("sriovnetworknodestates").VersionedParams(&opts, params).Stream(ctx)
		if err != nil {
			return nil, err
		}
		return watch.NewStreamWatcher(newStateDecoder(body), apierrors.NewClientErrorReporter(http.StatusInternalServerError, "GET", "NodeStateDecoding")), nil
	}
	return func(lw toolscache.ListerWatcher, obj runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
		if _, ok := obj.(*v1.SriovNetworkNodeState); ok {
			lw = &toolscache.ListWatch{ListWithContextFunc: toolscache.ToListerWithContext(lw).ListWithContext, WatchFuncWithContext: states}
		}
		return toolscache.NewSharedIndexInformer(lw, obj, resync, indexers)
	}, nil
}

// stateDecoder reads watch events of node states (one JSON object each, "type" before
// "object") from an API server's answer.
type stateDecoder struct {
	io.Closer
	json *jsontext.Decoder
}

func newStateDecoder(body io.ReadCloser) *stateDecoder {
	return &stateDecoder{Closer: body, json: jsontext.NewDecoder(body, json.WithUnmarshalers(json.JoinUnmarshalers(
		json.UnmarshalFromFunc(skipManagedFields), json.UnmarshalFromFunc(firstVF),
	)))}
}

// Close ends the stream, and with it a Decode that waits.
func (d *stateDecoder) Close() { _ = d.Closer.Close() }

// Decode waits for the next event.
func (d *stateDecoder) Decode() (watch.EventType, runtime.Object, error) {
	var e stateEvent
	if err := json.UnmarshalDecode(d.json, &e); errors.Is(err, io.EOF) {
		return "", nil, io.EOF // in the middle of an event it would be ErrUnexpectedEOF
	} else if err != nil {
		return "", nil, fmt.Errorf("decode an event of node states: %w", err)
	}
	return e.kind, e.object, nil
}

type stateEvent struct {
	kind   watch.EventType
	object runtime.Object // *metav1.Status of an error, else *v1.SriovNetworkNodeState
}

// UnmarshalJSONFrom reads one event.
func (e *stateEvent) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if t, err := d.ReadToken(); err != nil {
		return err
	} else if t.Kind() != '{' {
		return fmt.Errorf("%v where an event was to begin", t)
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		switch name.String() {
		case "type":
			err = json.UnmarshalDecode(d, &e.kind)
		case "object":
			switch e.kind {
			case "":
				return errors.New("an object before the type of its event")
			case watch.Error:
				e.object = &metav1.Status{}
			default:
				e.object = &v1.SriovNetworkNodeState{}
			}
			err = json.UnmarshalDecode(d, e.object)
		default:
			err = d.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	if err == nil && e.object == nil {
		return errors.New("an event without an object")
	}
	return err
}

// skipManagedFields leaves out what the cache would drop.
func skipManagedFields(d *jsontext.Decoder, _ *[]metav1.ManagedFieldsEntry) error {
	return d.SkipValue()
}

// firstVF keeps of a PF's VFs no more than planning asks for: whether there is just one,
// and its address (InterfaceExt.Virtual). A second stands for all others.
func firstVF(d *jsontext.Decoder, vfs *[]v1.VirtualFunction) error {
	if d.PeekKind() != '[' {
		return d.SkipValue()
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	*vfs = nil
	for d.PeekKind() != ']' {
		var vf v1.VirtualFunction
		var err error
		if len(*vfs) == 0 {
			err = json.UnmarshalDecode(d, &vf)
		} else {
			err = d.SkipValue()
		}
		if err != nil {
			return err
		}
		if len(*vfs) < 2 {
			*vfs = append(*vfs, vf)
		}
	}
	_, err := d.ReadToken()
	return err
}
