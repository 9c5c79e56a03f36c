// SPDX-License-Identifier: Apache-2.0

// Foreign is a DRA driver of hardware that is none: what a claim may have beside VFs. It
// prepares every claim that kubelet brings, whatever was allocated, by one CDI device that sets
// FOREIGN=DEVICE in the containers.
//
//	foreign -driver gpu.example.com -pool gpus -device gpu-0
//
// ResourceSlices are the caller's to make. It ends with SIGTERM and takes its files along.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// plugin is all of a driver that kubelet sees.
type plugin struct {
	registerapi.UnimplementedRegistrationServer
	dra.UnimplementedDRAPluginServer
	name, pool, device string
	socket, cdi        string
}

func main() {
	p := &plugin{}
	flag.StringVar(&p.name, "driver", "gpu.example.com", "`name` of the driver")
	flag.StringVar(&p.pool, "pool", "gpus", "`name` of the pool that the device is in")
	flag.StringVar(&p.device, "device", "gpu-0", "`name` of the device that every claim gets")
	kubelet := flag.String("kubelet-dir", "/var/lib/kubelet", "kubelet's `directory`")
	flag.StringVar(&p.cdi, "cdi-dir", "/var/run/cdi", "`directory` of the CDI specification")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := p.run(ctx, *kubelet)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "foreign:", err)
		os.Exit(1)
	}
}

func (p *plugin) run(ctx context.Context, kubelet string) error {
	dir := filepath.Join(kubelet, "plugins", p.name)
	p.socket = filepath.Join(dir, "dra.sock")
	spec := filepath.Join(p.cdi, p.name+".json")
	defer os.RemoveAll(dir)
	defer os.Remove(spec)
	if err := errors.Join(os.MkdirAll(dir, 0o750), os.MkdirAll(p.cdi, 0o755)); err != nil {
		return err
	}
	if err := os.WriteFile(spec, fmt.Appendf(nil, `{"cdiVersion": "0.5.0", "kind": "%s/device", "devices": [
		{"name": %q, "containerEdits": {"env": ["FOREIGN=%s"]}}]}`, p.name, p.device, p.device), 0o600); err != nil {
		return err
	}
	server := grpc.NewServer()
	dra.RegisterDRAPluginServer(server, p)
	registerapi.RegisterRegistrationServer(server, p)
	group, ctx := errgroup.WithContext(ctx)
	for _, socket := range []string{p.socket, filepath.Join(kubelet, "plugins_registry", p.name+"-reg.sock")} {
		_ = os.Remove(socket) // of one that was killed
		listener, err := net.Listen("unix", socket)
		if err != nil {
			return err
		}
		group.Go(func() error { return server.Serve(listener) })
	}
	group.Go(func() error {
		<-ctx.Done()
		server.GracefulStop()
		return nil
	})
	return group.Wait()
}

// GetInfo implements registerapi.RegistrationServer.
func (p *plugin) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{
		Type: registerapi.DRAPlugin, Name: p.name, Endpoint: p.socket, SupportedVersions: []string{dra.DRAPluginService},
	}, nil
}

// NotifyRegistrationStatus implements registerapi.RegistrationServer.
func (p *plugin) NotifyRegistrationStatus(_ context.Context, s *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	if !s.PluginRegistered {
		fmt.Fprintln(os.Stderr, "foreign: refused by kubelet:", s.Error)
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}

// NodePrepareResources implements dra.DRAPluginServer.
func (p *plugin) NodePrepareResources(_ context.Context, r *dra.NodePrepareResourcesRequest) (*dra.NodePrepareResourcesResponse, error) {
	out := &dra.NodePrepareResourcesResponse{Claims: map[string]*dra.NodePrepareResourceResponse{}}
	for _, c := range r.Claims {
		out.Claims[c.Uid] = &dra.NodePrepareResourceResponse{Devices: []*dra.Device{{
			PoolName: p.pool, DeviceName: p.device, CdiDeviceIds: []string{p.name + "/device=" + p.device},
		}}}
	}
	return out, nil
}

// NodeUnprepareResources implements dra.DRAPluginServer.
func (p *plugin) NodeUnprepareResources(_ context.Context, r *dra.NodeUnprepareResourcesRequest) (*dra.NodeUnprepareResourcesResponse, error) {
	out := &dra.NodeUnprepareResourcesResponse{Claims: map[string]*dra.NodeUnprepareResourceResponse{}}
	for _, c := range r.Claims {
		out.Claims[c.Uid] = &dra.NodeUnprepareResourceResponse{}
	}
	return out, nil
}
