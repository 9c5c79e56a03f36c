// SPDX-License-Identifier: Apache-2.0

// Package lagtest gives the reconcilers' tests a cache that is behind the API server: one
// that the test moves on event by event (Lagging), and one that goes on showing single
// objects as they were (Stale).
package lagtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

// Scheme has all kinds that the operator knows.
func Scheme(t *testing.T) *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1.AddToScheme, nad.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	return scheme
}

// Namespace of the operator.
const Namespace = "ns"

// Lagging is an API server in memory, and a client of it whose cache shows each object as
// it was some versions ago: what has happened waits in Pending until Deliver is called.
type Lagging struct {
	client.Client // nil: what is not implemented here is not called
	t             *testing.T
	scheme        *runtime.Scheme
	mapper        meta.RESTMapper
	version       int
	Stored        map[string]client.Object
	Cached        map[string]client.Object
	Pending       []Change
	During        func() // called before a write is carried out: the cache may move on meanwhile
	// Refuse is asked about the path of each patch; nil refuses nothing.
	Refuse  func(path string) *apierrors.StatusError
	OnEvent func(old, now client.Object)
	Patches int
}

// Change of one object; Now is nil if it was deleted.
type Change struct {
	Key string
	Now client.Object
}

// NewLagging has nothing in it, and nobody who is told of events.
func NewLagging(t *testing.T) *Lagging {
	scheme := Scheme(t)
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.AddSpecific(env.NodeKind, corev1.SchemeGroupVersion.WithResource("nodes"), corev1.SchemeGroupVersion.WithResource("node"), meta.RESTScopeRoot)
	states := v1.GroupVersion.WithResource("sriovnetworknodestates")
	mapper.AddSpecific(v1.GroupVersion.WithKind("SriovNetworkNodeState"), states, states, meta.RESTScopeNamespace)
	return &Lagging{t: t, scheme: scheme, mapper: mapper, Stored: map[string]client.Object{}, Cached: map[string]client.Object{},
		During: func() {}, OnEvent: func(_, _ client.Object) {}}
}

// KeyOf is the key of an object in Stored and Cached: its kind and name.
func KeyOf(obj client.Object) string {
	kind := fmt.Sprintf("%T", obj)
	return kind[strings.LastIndex(kind, ".")+1:] + "/" + obj.GetName()
}

// Put stores an object as a new version.
func (l *Lagging) Put(obj client.Object) {
	l.version++
	obj = obj.DeepCopyObject().(client.Object)
	obj.SetResourceVersion(strconv.Itoa(l.version))
	l.Stored[KeyOf(obj)] = obj
	l.Pending = append(l.Pending, Change{KeyOf(obj), obj})
}

// Remove deletes an object.
func (l *Lagging) Remove(key string) {
	delete(l.Stored, key)
	l.Pending = append(l.Pending, Change{Key: key})
}

// Deliver brings the oldest event of one kind of object, as each kind has a watch of its own.
func (l *Lagging) Deliver(pick int) bool {
	if len(l.Pending) == 0 {
		return false
	}
	kind, _, _ := strings.Cut(l.Pending[pick%len(l.Pending)].Key, "/")
	i := slices.IndexFunc(l.Pending, func(c Change) bool { return strings.HasPrefix(c.Key, kind+"/") })
	c := l.Pending[i]
	l.Pending = slices.Delete(l.Pending, i, i+1)
	old := l.Cached[c.Key]
	if c.Now == nil {
		delete(l.Cached, c.Key)
	} else {
		l.Cached[c.Key] = c.Now
	}
	l.OnEvent(old, c.Now)
	return true
}

// Live reads past the cache.
func (l *Lagging) Live() client.Reader { return &Lagging{Cached: l.Stored} }

// Scheme of a client.
func (l *Lagging) Scheme() *runtime.Scheme { return l.scheme }

// RESTMapper of a client.
func (l *Lagging) RESTMapper() meta.RESTMapper { return l.mapper }

// GroupVersionKindFor takes what has metadata alone for a Node.
func (l *Lagging) GroupVersionKindFor(obj runtime.Object) (schema.GroupVersionKind, error) {
	if _, ok := obj.(*metav1.PartialObjectMetadata); ok {
		return env.NodeKind, nil
	}
	kinds, _, err := l.scheme.ObjectKinds(obj)
	return kinds[0], err
}

// Get reads from the cache.
func (l *Lagging) Get(_ context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	obj.SetName(key.Name)
	found, ok := l.Cached[KeyOf(obj)]
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{Resource: KeyOf(obj)}, key.Name)
	}
	switch o := obj.(type) {
	case *metav1.PartialObjectMetadata:
		found.(*metav1.PartialObjectMetadata).DeepCopyInto(o)
	case *v1.SriovNetworkNodeState:
		found.(*v1.SriovNetworkNodeState).DeepCopyInto(o)
	case *corev1.Namespace:
		found.(*corev1.Namespace).DeepCopyInto(o)
	case *v1.SriovOperatorConfig:
		found.(*v1.SriovOperatorConfig).DeepCopyInto(o)
	}
	return nil
}

// List reads from the cache, whatever the options say.
func (l *Lagging) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	for _, key := range slices.Sorted(maps.Keys(l.Cached)) {
		switch o := list.(type) {
		case *v1.SriovNetworkNodePolicyList:
			if p, ok := l.Cached[key].(*v1.SriovNetworkNodePolicy); ok {
				o.Items = append(o.Items, *p.DeepCopy())
			}
		case *v1.SriovNetworkPoolConfigList:
			if p, ok := l.Cached[key].(*v1.SriovNetworkPoolConfig); ok {
				o.Items = append(o.Items, *p.DeepCopy())
			}
		case *metav1.PartialObjectMetadataList:
			if s, ok := l.Cached[key].(*v1.SriovNetworkNodeState); ok && strings.HasPrefix(o.Kind, "SriovNetworkNodeState") {
				o.Items = append(o.Items, metav1.PartialObjectMetadata{ObjectMeta: s.ObjectMeta})
			}
			if n, ok := l.Cached[key].(*metav1.PartialObjectMetadata); ok && strings.HasPrefix(o.Kind, "Node") {
				o.Items = append(o.Items, *n.DeepCopy())
			}
		}
	}
	return nil
}

// Create stores what is not there.
func (l *Lagging) Create(_ context.Context, obj client.Object, _ ...client.CreateOption) error {
	l.During()
	if _, ok := l.Stored[KeyOf(obj)]; ok {
		return apierrors.NewAlreadyExists(schema.GroupResource{}, obj.GetName())
	}
	l.Put(obj)
	return nil
}

// ServeHTTP carries out a merge patch as the API server does: if the version is the one given.
func (l *Lagging) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	l.During()
	l.Patches++
	if l.Refuse != nil {
		if err := l.Refuse(req.URL.Path); err != nil {
			w.Header().Set("Content-Type", "application/json")
			l.refuse(w, err)
			return
		}
	}
	parts := strings.Split(strings.TrimSuffix(req.URL.Path, "/"), "/")
	status := parts[len(parts)-1] == "status"
	if status {
		parts = parts[:len(parts)-1]
	}
	var empty client.Object = &v1.SriovNetworkNodeState{}
	if parts[len(parts)-2] == "nodes" {
		empty = &metav1.PartialObjectMetadata{}
	}
	empty.SetName(parts[len(parts)-1])
	w.Header().Set("Content-Type", "application/json")
	old, ok := l.Stored[KeyOf(empty)]
	if !ok {
		l.refuse(w, apierrors.NewNotFound(schema.GroupResource{Resource: "x"}, empty.GetName()))
		return
	}
	before, _ := json.Marshal(old)
	after, err := jsonpatch.MergePatch(before, body)
	if err == nil {
		err = json.Unmarshal(after, empty)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !strings.Contains(string(body), `"resourceVersion":"`) {
		l.t.Errorf("a patch without a precondition: %s", body)
	}
	if empty.GetResourceVersion() != old.GetResourceVersion() {
		l.refuse(w, apierrors.NewConflict(schema.GroupResource{Resource: "x"}, empty.GetName(), fmt.Errorf("it has changed")))
		return
	}
	if !equality.Semantic.DeepEqual(old, empty) {
		l.Put(empty)
	}
	_ = json.NewEncoder(w).Encode(l.Stored[KeyOf(empty)])
}

func (l *Lagging) refuse(w http.ResponseWriter, err *apierrors.StatusError) {
	s := err.Status()
	s.Kind, s.APIVersion = "Status", "v1"
	w.WriteHeader(int(s.Code))
	_ = json.NewEncoder(w).Encode(s)
}

// APIClient is one of the kind that the reconcilers have.
func (l *Lagging) APIClient() *apiclient.Client {
	server := httptest.NewServer(l)
	l.t.Cleanup(server.Close)
	c, err := apiclient.New(l, &rest.Config{Host: server.URL, QPS: -1}, server.Client())
	require.NoError(l.t, err)
	return c
}
