// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
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
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
	"github.com/sriovkit/sriovkit/operator/internal/soak"
)

const lagNamespace = "ns"

// lagging is an API server in memory, and a client of it whose cache shows each object as
// it was some versions ago: what has happened waits in pending until deliver is called.
type lagging struct {
	client.Client // nil: what is not implemented here is not called
	t             *testing.T
	scheme        *runtime.Scheme
	mapper        meta.RESTMapper
	version       int
	stored        map[string]client.Object
	cached        map[string]client.Object
	pending       []change
	during        func() // called before a write is carried out: the cache may move on meanwhile
	onEvent       func(old, now client.Object)
	patches       int
}

// change of one object; now is nil if it was deleted.
type change struct {
	key string
	now client.Object
}

func newLagging(t *testing.T) *lagging {
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	require.NoError(t, v1.AddToScheme(scheme))
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.AddSpecific(nodeKind, corev1.SchemeGroupVersion.WithResource("nodes"), corev1.SchemeGroupVersion.WithResource("node"), meta.RESTScopeRoot)
	states := v1.GroupVersion.WithResource("sriovnetworknodestates")
	mapper.AddSpecific(v1.GroupVersion.WithKind("SriovNetworkNodeState"), states, states, meta.RESTScopeNamespace)
	return &lagging{t: t, scheme: scheme, mapper: mapper, stored: map[string]client.Object{}, cached: map[string]client.Object{}}
}

func keyOf(obj client.Object) string {
	kind := fmt.Sprintf("%T", obj)
	return kind[strings.LastIndex(kind, ".")+1:] + "/" + obj.GetName()
}

// put stores an object as a new version.
func (l *lagging) put(obj client.Object) {
	l.version++
	obj = obj.DeepCopyObject().(client.Object)
	obj.SetResourceVersion(strconv.Itoa(l.version))
	l.stored[keyOf(obj)] = obj
	l.pending = append(l.pending, change{keyOf(obj), obj})
}

func (l *lagging) remove(key string) {
	delete(l.stored, key)
	l.pending = append(l.pending, change{key: key})
}

// deliver brings the oldest event of one kind of object, as each kind has a watch of its own.
func (l *lagging) deliver(pick int) bool {
	if len(l.pending) == 0 {
		return false
	}
	kind, _, _ := strings.Cut(l.pending[pick%len(l.pending)].key, "/")
	i := slices.IndexFunc(l.pending, func(c change) bool { return strings.HasPrefix(c.key, kind+"/") })
	c := l.pending[i]
	l.pending = slices.Delete(l.pending, i, i+1)
	old := l.cached[c.key]
	if c.now == nil {
		delete(l.cached, c.key)
	} else {
		l.cached[c.key] = c.now
	}
	l.onEvent(old, c.now)
	return true
}

// live reads past the cache.
func (l *lagging) live() client.Reader { return &lagging{cached: l.stored} }

func (l *lagging) Scheme() *runtime.Scheme     { return l.scheme }
func (l *lagging) RESTMapper() meta.RESTMapper { return l.mapper }
func (l *lagging) GroupVersionKindFor(obj runtime.Object) (schema.GroupVersionKind, error) {
	if _, ok := obj.(*metav1.PartialObjectMetadata); ok {
		return nodeKind, nil
	}
	kinds, _, err := l.scheme.ObjectKinds(obj)
	return kinds[0], err
}

func (l *lagging) Get(_ context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	obj.SetName(key.Name)
	found, ok := l.cached[keyOf(obj)]
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{Resource: keyOf(obj)}, key.Name)
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

func (l *lagging) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	for _, key := range slices.Sorted(maps.Keys(l.cached)) {
		switch o := list.(type) {
		case *v1.SriovNetworkNodePolicyList:
			if p, ok := l.cached[key].(*v1.SriovNetworkNodePolicy); ok {
				o.Items = append(o.Items, *p.DeepCopy())
			}
		case *v1.SriovNetworkPoolConfigList:
			if p, ok := l.cached[key].(*v1.SriovNetworkPoolConfig); ok {
				o.Items = append(o.Items, *p.DeepCopy())
			}
		case *metav1.PartialObjectMetadataList:
			if s, ok := l.cached[key].(*v1.SriovNetworkNodeState); ok && strings.HasPrefix(o.Kind, "SriovNetworkNodeState") {
				o.Items = append(o.Items, metav1.PartialObjectMetadata{ObjectMeta: s.ObjectMeta})
			}
			if n, ok := l.cached[key].(*metav1.PartialObjectMetadata); ok && strings.HasPrefix(o.Kind, "Node") {
				o.Items = append(o.Items, *n.DeepCopy())
			}
		}
	}
	return nil
}

func (l *lagging) Create(_ context.Context, obj client.Object, _ ...client.CreateOption) error {
	l.during()
	if _, ok := l.stored[keyOf(obj)]; ok {
		return apierrors.NewAlreadyExists(schema.GroupResource{}, obj.GetName())
	}
	l.put(obj)
	return nil
}

// ServeHTTP carries out a merge patch as the API server does: if the version is the one given.
func (l *lagging) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	l.during()
	l.patches++
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
	old, ok := l.stored[keyOf(empty)]
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
		l.put(empty)
	}
	_ = json.NewEncoder(w).Encode(l.stored[keyOf(empty)])
}

func (l *lagging) refuse(w http.ResponseWriter, err *apierrors.StatusError) {
	s := err.Status()
	s.Kind, s.APIVersion = "Status", "v1"
	w.WriteHeader(int(s.Code))
	_ = json.NewEncoder(w).Encode(s)
}

// client is one of the kind that the reconcilers have.
func (l *lagging) client() *Client {
	server := httptest.NewServer(l)
	l.t.Cleanup(server.Close)
	cfg := &rest.Config{
		Host: server.URL, QPS: -1, ContentConfig: rest.ContentConfig{NegotiatedSerializer: serializer.NewCodecFactory(l.scheme).WithoutConversion()},
	}
	api, err := rest.UnversionedRESTClientFor(cfg)
	require.NoError(l.t, err)
	c := &Client{Client: l, api: api}
	require.NoError(l.t, c.patchThrough(cfg, server.Client()))
	return c
}

// planning is a NodePlanner behind a lagging cache, with its queue.
type planning struct {
	*lagging
	planner *NodePlanner
	queued  map[string]bool
}

func newPlanning(t *testing.T) *planning {
	p := &planning{lagging: newLagging(t), queued: map[string]bool{}}
	o := Operator{Namespace: lagNamespace, ResourcePrefix: "x.io", KeepStaleMinutes: 30}
	p.planner = &NodePlanner{Client: p.client(), Operator: o, Live: p.live(), Board: &Board{Changed: func([]string) {}}}
	p.during = func() {}
	p.onEvent = p.enqueue
	p.put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: lagNamespace}})
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: lagNamespace, Name: v1.DefaultConfigName, UID: "u"}}
	cfg.Spec.ConfigDaemonNodeSelector = map[string]string{"kubernetes.io/os": "linux"}
	p.put(cfg)
	return p
}

// enqueue does what the watches of setupNodes do.
func (p *planning) enqueue(old, now client.Object) {
	obj := now
	if obj == nil {
		obj = old
	}
	update := event.UpdateEvent{ObjectOld: old, ObjectNew: now}
	switch o := obj.(type) {
	case *v1.SriovNetworkNodeState:
		if old == nil || now == nil || p.planner.News().Update(update) {
			p.queued[o.Name] = true
		}
	case *metav1.PartialObjectMetadata:
		if old == nil || now == nil || p.planner.NodeNews().Update(update) {
			p.queued[o.Name] = true
		}
	case *corev1.Namespace:
	default:
		for _, n := range p.cached {
			if n, ok := n.(*metav1.PartialObjectMetadata); ok {
				p.queued[n.Name] = true
			}
		}
	}
}

func (p *planning) node(name string, labels map[string]string) *metav1.PartialObjectMetadata {
	n := nodeMeta()
	n.Name, n.Labels = name, map[string]string{"kubernetes.io/os": "linux"}
	maps.Copy(n.Labels, labels)
	return n
}

func (p *planning) policy(name string, vfs int, selector map[string]string) *v1.SriovNetworkNodePolicy {
	o := &v1.SriovNetworkNodePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: lagNamespace, Name: name}}
	o.Spec = v1.SriovNetworkNodePolicySpec{ResourceName: "r" + name, NumVfs: vfs, NodeSelector: selector,
		NicSelector: v1.SriovNetworkNicSelector{PfNames: []string{"ens1"}}}
	return o
}

// report plays the daemon.
func (p *planning) report(name string, names ...string) {
	s, ok := p.stored["SriovNetworkNodeState/"+name].(*v1.SriovNetworkNodeState)
	if !ok {
		return
	}
	s = s.DeepCopy()
	s.Status.SyncStatus, s.Status.Interfaces = v1.SyncSucceeded, nil
	for i, n := range names {
		s.Status.Interfaces = append(s.Status.Interfaces, v1.InterfaceExt{Name: n, PciAddress: fmt.Sprintf("0000:0%d:00.0", i+1), Vendor: "8086", DeviceID: "10c9", TotalVfs: 64})
	}
	p.put(s)
}

func (p *planning) work(name string) {
	delete(p.queued, name)
	result, err := p.planner.Reconcile(p.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: lagNamespace, Name: name}})
	require.NoError(p.t, err)
	if result.RequeueAfter > 0 && result.RequeueAfter <= conflictAgain {
		p.queued[name] = true
	}
}

// settle lets everything happen that is on its way.
func (p *planning) settle() {
	for range 10_000 {
		switch {
		case p.deliver(0):
		case len(p.queued) > 0:
			p.work(slices.Min(slices.Collect(maps.Keys(p.queued))))
		default:
			return
		}
	}
	p.t.Fatal("it never settles")
}

// check compares every node state and node label with what the last policies say.
func (p *planning) check() {
	var policies []*v1.SriovNetworkNodePolicy
	mode := ""
	for _, key := range slices.Sorted(maps.Keys(p.stored)) {
		switch o := p.stored[key].(type) {
		case *v1.SriovNetworkNodePolicy:
			policies = append(policies, o)
		case *v1.SriovNetworkPoolConfig:
			mode = o.Spec.RdmaMode
		}
	}
	for _, obj := range p.stored {
		n, ok := obj.(*metav1.PartialObjectMetadata)
		if !ok {
			continue
		}
		s := p.stored["SriovNetworkNodeState/"+n.Name].(*v1.SriovNetworkNodeState)
		if s.Status.SyncStatus == "" {
			continue
		}
		want := plan.Node(plan.Input{Policies: policies, Labels: n.Labels, State: s, RdmaMode: mode}).Spec
		require.True(p.t, equality.Semantic.DeepEqual(want, s.Spec), "node %s: want %+v, is %+v", n.Name, want, s.Spec)
		label := v1.DevicePluginDisabled
		if len(want.Interfaces) > 0 {
			label = v1.DevicePluginEnabled
		}
		require.Equal(p.t, label, n.Labels[v1.LabelDevicePlugin], n.Name)
	}
}

// The smallest case: the cache goes on showing the state of before while a policy is
// changed twice. The second plan equals what the cache shows and writes nothing; the event
// of the first write has to bring it about.
func TestPolicyChangedBackBehindTheCache(t *testing.T) {
	t.Parallel()
	p := newPlanning(t)
	p.put(p.node("a", nil))
	p.settle()
	p.report("a", "ens1")
	p.put(p.policy("x", 4, nil))
	p.settle()
	spec := func() int {
		return p.stored["SriovNetworkNodeState/a"].(*v1.SriovNetworkNodeState).Spec.Interfaces[0].NumVfs
	}
	require.Equal(t, 4, spec())

	only := func(kind string) { // its events arrive, those of others do not
		for i := slices.IndexFunc(p.pending, func(c change) bool { return strings.HasPrefix(c.key, kind) }); i >= 0; i = slices.IndexFunc(p.pending, func(c change) bool { return strings.HasPrefix(c.key, kind) }) {
			p.deliver(i)
		}
	}
	p.put(p.policy("x", 8, nil))
	only("SriovNetworkNodePolicy")
	p.work("a")
	require.Equal(t, 8, spec())
	p.put(p.policy("x", 4, nil))
	only("SriovNetworkNodePolicy")
	p.work("a")
	require.Equal(t, 8, spec(), "nothing to write, as far as the cache shows")
	only("SriovNetworkNodeState")
	require.True(t, p.queued["a"], "the event of the first write is news to the second plan")
	p.settle()
	require.Equal(t, 4, spec())
	p.check()
}

// A write that nothing was planned after comes back as no news: it costs no second plan.
func TestOwnWriteIsNoNews(t *testing.T) {
	t.Parallel()
	p := newPlanning(t)
	p.put(p.node("a", nil))
	p.settle()
	p.report("a", "ens1")
	p.settle()
	p.put(p.policy("x", 4, nil))
	for len(p.queued) == 0 {
		require.True(t, p.deliver(0))
	}
	p.work("a")
	require.Len(t, p.pending, 2, "spec and label")
	for p.deliver(0) {
	}
	require.Empty(t, p.queued)
	p.check()
}

// Whatever is changed, in whatever order the watches bring it, and how late: in the end
// every node state and every label is what the last policies, pools and labels say.
func TestPlansConvergeBehindALaggingCache(t *testing.T) {
	t.Parallel()
	runs := soak.Times(100)
	patches := 0
	for seed := range runs {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(seed), 1))
			p := newPlanning(t)
			p.during = func() {
				for range random.IntN(4) {
					p.deliver(random.IntN(100))
				}
			}
			names := []string{"a", "b", "c"}
			for _, n := range names {
				p.put(p.node(n, nil))
			}
			p.settle()
			for _, n := range names {
				p.report(n, "ens1", "ens2")
			}
			for range 20 { // what comes later must not hide what went wrong
				for range 1 + random.IntN(12) {
					p.step(random, names)
				}
				p.settle()
				p.check()
			}
			patches += p.patches
		})
	}
	t.Logf("%d checks, %d patches", 20*runs, patches)
}

// step does one thing of those that happen in a cluster.
func (p *planning) step(random *rand.Rand, names []string) {
	name := names[random.IntN(len(names))]
	zone := map[string]string{"zone": string(rune('a' + random.IntN(2)))}
	switch policy := string(rune('x' + random.IntN(2))); random.IntN(16) {
	case 0, 1:
		p.put(p.policy(policy, 4*(1+random.IntN(2)), nil))
	case 2:
		p.put(p.policy(policy, 4, zone))
	case 3:
		if _, ok := p.stored["SriovNetworkNodePolicy/"+policy]; ok {
			p.remove("SriovNetworkNodePolicy/" + policy)
		}
	case 4:
		n := p.stored["PartialObjectMetadata/"+name].(*metav1.PartialObjectMetadata).DeepCopy()
		n.Labels["zone"] = zone["zone"]
		p.put(n)
	case 5: // somebody else's hand, or the kubelet's
		n := p.stored["PartialObjectMetadata/"+name].(*metav1.PartialObjectMetadata).DeepCopy()
		if random.IntN(2) == 0 {
			delete(n.Labels, v1.LabelDevicePlugin)
		}
		p.put(n)
	case 6:
		p.report(name, []string{"ens1", "ens2"}[random.IntN(2):]...)
	case 7:
		pool := &v1.SriovNetworkPoolConfig{ObjectMeta: metav1.ObjectMeta{Namespace: lagNamespace, Name: "p"}}
		pool.Spec.RdmaMode = []string{"shared", "exclusive"}[random.IntN(2)]
		p.put(pool)
	case 8, 9:
		p.deliver(random.IntN(100))
	default:
		more := true
		for more && random.IntN(4) > 0 {
			more = p.deliver(random.IntN(100))
		}
		if len(p.queued) > 0 {
			all := slices.Sorted(maps.Keys(p.queued))
			p.work(all[random.IntN(len(all))])
		}
	}
}

var _ reconcile.Reconciler = (*NodePlanner)(nil)
