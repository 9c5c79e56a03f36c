// SPDX-License-Identifier: Apache-2.0

// Package kubelettest plays kubelet's part towards device plugins: both ways of
// registration, the device lists it watches, allocation, the pod-resources API,
// restarts and refusals. It follows what kubelet's device manager and plugin
// watcher do on the wire, so that a plugin which works with it registers with
// the real one.
package kubelettest

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
)

// Root makes a kubelet directory, short enough for sockets, with a plugin
// registry if watched.
func Root(t testing.TB, watched bool) string {
	t.Helper()
	root, err := os.MkdirTemp("", "k")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(root) })
	require.NoError(t, os.Mkdir(filepath.Join(root, "device-plugins"), 0o750))
	if watched {
		require.NoError(t, os.Mkdir(filepath.Join(root, "plugins_registry"), 0o750))
	}
	return root
}

// Kubelet is one run of a kubelet, from its start to its stop.
type Kubelet struct {
	pluginapi.UnimplementedRegistrationServer
	podresources.UnimplementedPodResourcesListerServer

	t      testing.TB
	root   string
	server *grpc.Server
	pods   *grpc.Server
	stop   context.CancelFunc
	group  sync.WaitGroup

	mu        sync.Mutex
	changed   chan struct{} // closed at every change
	endpoints map[string]*endpoint
	held      map[string][]string // device IDs by resource
	unlisted  map[string][]string // the same, of init containers
	// introduced has the time of making of each socket that was asked.
	introduced map[string]time.Time
	refusals   int // registrations still to be refused
	refused    int
	claimed    map[string]string // device names by claim
	drivers    map[string][]*draDriver
	prepared   map[string]*podresources.PodResources // by claim
	old        bool                                  // before 1.27
	asked      *atomic.Int64
	silent     bool // the pod-resources API does not answer
}

type endpoint struct {
	conn    *grpc.ClientConn
	socket  string
	devices []*pluginapi.Device // of the last message
	lists   int                 // messages so far
	live    bool                // the stream is open
}

// Option changes a kubelet before it starts.
type Option func(*Kubelet)

// Refusing makes the kubelet refuse the first n registrations.
func Refusing(n int) Option { return func(k *Kubelet) { k.refusals = n } }

// Holding makes pods hold devices of a resource from the start.
func Holding(resource string, ids ...string) Option {
	return func(k *Kubelet) { k.held[resource] = ids }
}

// Old makes the kubelet one before 1.27.
func Old() Option { return func(k *Kubelet) { k.old = true } }

// Silent makes the pod-resources API fail until Silence(false).
func Silent() Option { return func(k *Kubelet) { k.silent = true } }

// Asked counts the questions to the pod-resources API.
func Asked(n *atomic.Int64) Option { return func(k *Kubelet) { k.asked = n } }

const checkpoint = "kubelet_internal_checkpoint"

// Start runs a kubelet on a directory until Stop or the test's end. Like the
// real one it first removes what earlier plugins left in device-plugins.
func Start(t testing.TB, root string, options ...Option) *Kubelet {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	k := &Kubelet{
		t: t, root: root, stop: cancel, changed: make(chan struct{}),
		endpoints: map[string]*endpoint{}, held: map[string][]string{}, introduced: map[string]time.Time{},
		server: grpc.NewServer(), pods: grpc.NewServer(),
	}
	for _, o := range options {
		o(k)
	}
	plugins := filepath.Join(root, "device-plugins")
	require.NoError(t, os.MkdirAll(plugins, 0o750))
	old, err := os.ReadDir(plugins)
	require.NoError(t, err)
	for _, e := range old {
		if e.Name() == checkpoint {
			continue
		}
		require.NoError(t, os.RemoveAll(filepath.Join(plugins, e.Name())))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(root, "pod-resources"), 0o750))
	pluginapi.RegisterRegistrationServer(k.server, k)
	podresources.RegisterPodResourcesListerServer(k.pods, k)
	k.serve(k.pods, filepath.Join(root, "pod-resources", "kubelet.sock"))
	k.serve(k.server, filepath.Join(plugins, "kubelet.sock"))
	if registry := filepath.Join(root, "plugins_registry"); exists(registry) {
		w, err := fsnotify.NewWatcher()
		require.NoError(t, err)
		require.NoError(t, w.Add(registry))
		k.group.Go(func() { k.watch(ctx, w, registry) })
	}
	t.Cleanup(k.Stop)
	return k
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (k *Kubelet) serve(s *grpc.Server, socket string) {
	k.t.Helper()
	_ = os.Remove(socket) // of the last kubelet
	l, err := net.Listen("unix", socket)
	require.NoError(k.t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false) // a kubelet that ends leaves it
	k.group.Go(func() { _ = s.Serve(l) })
}

// Stop ends the kubelet as abruptly as a crash, and leaves its files.
func (k *Kubelet) Stop() {
	k.stop()
	k.server.Stop()
	k.pods.Stop()
	k.mu.Lock()
	for _, e := range k.endpoints {
		_ = e.conn.Close()
	}
	k.mu.Unlock()
	k.group.Wait()
}

// watch finds sockets in the registry, those that are there and those to come.
func (k *Kubelet) watch(ctx context.Context, w *fsnotify.Watcher, registry string) {
	defer w.Close()
	there, _ := os.ReadDir(registry)
	for _, e := range there {
		k.introduce(ctx, filepath.Join(registry, e.Name()))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-w.Events:
			switch {
			case e.Has(fsnotify.Create):
				k.introduce(ctx, e.Name)
			case e.Has(fsnotify.Remove):
				k.forget(e.Name)
			}
		}
	}
}

// introduce asks a socket what it is and takes it on.
func (k *Kubelet) introduce(ctx context.Context, socket string) {
	if !strings.HasSuffix(socket, ".sock") || !k.isNew(socket) {
		return
	}
	conn, err := dial(socket)
	if err != nil {
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client := registerapi.NewRegistrationClient(conn)
	info, err := client.GetInfo(ctx, &registerapi.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return // the real watcher tries again; our plugins are up before the file is
	}
	outcome := &registerapi.RegistrationStatus{PluginRegistered: true}
	if info.Type == registerapi.DRAPlugin {
		if err := k.connectDriver(info.Name, info.Endpoint, socket); err != nil {
			outcome = &registerapi.RegistrationStatus{Error: err.Error()}
		}
	} else if err := k.admit(info.Type == registerapi.DevicePlugin, info.SupportedVersions); err != nil {
		outcome = &registerapi.RegistrationStatus{Error: err.Error()}
	} else if err := k.connect(info.Name, cmp.Or(info.Endpoint, socket)); err != nil {
		outcome = &registerapi.RegistrationStatus{Error: err.Error()}
	}
	_, _ = client.NotifyRegistrationStatus(ctx, outcome)
}

// isNew tells a socket that was just made from one whose making was both seen
// and announced.
func (k *Kubelet) isNew(socket string) bool {
	info, err := os.Lstat(socket)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil || k.introduced[socket].Equal(info.ModTime()) {
		return false
	}
	k.introduced[socket] = info.ModTime()
	return true
}

// forget drops the endpoint of a socket that was removed.
func (k *Kubelet) forget(socket string) {
	k.update(func() {
		k.forgetDriver(socket)
		delete(k.introduced, socket) // the next one may be as old, by a coarse clock
		for _, e := range k.endpoints {
			if e.socket == socket {
				_ = e.conn.Close()
			}
		}
	})
}

// Register is the call of a plugin that was not found by itself.
func (k *Kubelet) Register(_ context.Context, r *pluginapi.RegisterRequest) (*pluginapi.Empty, error) {
	if err := k.admit(true, []string{r.Version}); err != nil {
		return nil, err
	}
	return &pluginapi.Empty{}, k.connect(r.ResourceName, filepath.Join(k.root, "device-plugins", r.Endpoint))
}

var errRefused = errors.New("refused by the test")

func (k *Kubelet) admit(isPlugin bool, versions []string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case !isPlugin:
		return errors.New("not a device plugin")
	case len(versions) != 1 || versions[0] != pluginapi.Version:
		return errors.New("unknown version of the API")
	case k.refused < k.refusals:
		k.refused++
		return errRefused
	}
	return nil
}

func dial(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// connect watches a plugin's devices, in place of an endpoint that had the name
// before.
func (k *Kubelet) connect(resource, socket string) error {
	conn, err := dial(socket)
	if err != nil {
		return err
	}
	e := &endpoint{conn: conn, socket: socket}
	k.mu.Lock()
	if old := k.endpoints[resource]; old != nil {
		_ = old.conn.Close()
	}
	k.endpoints[resource] = e
	k.mu.Unlock()
	k.group.Go(func() { k.follow(e) })
	return nil
}

func (k *Kubelet) follow(e *endpoint) {
	stream, err := pluginapi.NewDevicePluginClient(e.conn).ListAndWatch(context.Background(), &pluginapi.Empty{}, grpc.WaitForReady(true))
	for err == nil {
		var r *pluginapi.ListAndWatchResponse
		if r, err = stream.Recv(); err == nil {
			k.update(func() {
				e.devices, e.live = r.Devices, true
				e.lists++
				if k.unlisted != nil {
					Checkpoint(k.t, k.root, k.unlisted)
				}
			})
		}
	}
	// As the real one: the devices stay, unhealthy, until someone registers.
	k.update(func() {
		e.live = false
		for _, d := range e.devices {
			d.Health = pluginapi.Unhealthy
		}
	})
}

func (k *Kubelet) update(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
	close(k.changed)
	k.changed = make(chan struct{})
}

// Get knows no pod, or, in a kubelet before 1.27, is not there.
func (k *Kubelet) Get(context.Context, *podresources.GetPodResourcesRequest) (*podresources.GetPodResourcesResponse, error) {
	if k.old {
		return nil, status.Error(codes.Unimplemented, "unknown method Get")
	}
	return nil, errors.New("pod not found")
}

// List tells the pods that hold devices.
func (k *Kubelet) List(context.Context, *podresources.ListPodResourcesRequest) (*podresources.ListPodResourcesResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asked != nil {
		k.asked.Add(1)
	}
	if k.silent {
		return nil, errors.New("silent")
	}
	out := &podresources.ListPodResourcesResponse{}
	for claim, device := range k.claimed {
		out.PodResources = append(out.PodResources, &podresources.PodResources{
			Name: "claimer", Namespace: "default",
			Containers: []*podresources.ContainerResources{{
				Name: "main",
				DynamicResources: []*podresources.DynamicResource{{
					ClaimNamespace: "default", ClaimName: claim,
					ClaimResources: []*podresources.ClaimResource{{DriverName: "sriov.example.com", PoolName: "node", DeviceName: device}},
				}},
			}},
		})
	}
	for _, pod := range k.prepared {
		out.PodResources = append(out.PodResources, pod)
	}
	for resource, ids := range k.held {
		out.PodResources = append(out.PodResources, &podresources.PodResources{
			Name: "pod", Namespace: "default",
			Containers: []*podresources.ContainerResources{{
				Name:    "main",
				Devices: []*podresources.ContainerDevices{{ResourceName: resource, DeviceIds: ids}},
			}},
		})
	}
	return out, nil
}
