// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// service answers kubelet on one socket.
type service struct {
	pluginapi.UnimplementedDevicePluginServer
	registerapi.UnimplementedRegistrationServer
	*Endpoint
	path    string
	refused chan error // has room for one
}

// GetInfo introduces the plugin to kubelet's plugin watcher. It names no endpoint, which
// makes kubelet use the socket that it found: its own path need not be the one in here, as
// where the kubelet's directory is another one of the host's.
func (s *service) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{
		Type:              registerapi.DevicePlugin,
		Name:              s.resource.String(),
		SupportedVersions: []string{pluginapi.Version},
	}, nil
}

// NotifyRegistrationStatus hears whether the plugin watcher took the plugin.
// After a refusal the socket is made anew, which is what the watcher reacts to.
func (s *service) NotifyRegistrationStatus(_ context.Context, r *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	if r.PluginRegistered {
		s.metrics.Registrations.WithLabelValues(s.resource.String(), "ok").Inc()
		s.log.Info("registered with kubelet", "socket", s.path)
		return &registerapi.RegistrationStatusResponse{}, nil
	}
	s.metrics.Registrations.WithLabelValues(s.resource.String(), "refused").Inc()
	select {
	case s.refused <- fmt.Errorf("%w: %s", errRefused, r.Error):
	default: // already ending
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}

func (s *service) GetDevicePluginOptions(context.Context, *pluginapi.Empty) (*pluginapi.DevicePluginOptions, error) {
	return options(), nil
}

// ListAndWatch sends the device list as soon as there is one and after every change,
// until kubelet goes away or the plugin ends.
func (s *service) ListAndWatch(_ *pluginapi.Empty, stream pluginapi.DevicePlugin_ListAndWatchServer) error {
	if !s.list.follow() {
		return status.Error(codes.Unavailable, "shutting down")
	}
	defer s.list.streams.Done()
	s.stream(1)
	defer s.stream(-1)
	for {
		p, known, ended, changed := s.list.news()
		if known {
			if err := stream.Send(listResponse(p.Devices)); err != nil {
				return err
			}
			s.log.Info("told kubelet", "devices", len(p.Devices))
		}
		if ended {
			return nil
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func listResponse(devices []Device) *pluginapi.ListAndWatchResponse {
	out := make([]*pluginapi.Device, len(devices))
	for i, d := range devices {
		out[i] = &pluginapi.Device{ID: d.ID, Health: pluginapi.Unhealthy}
		if d.Healthy {
			out[i].Health = pluginapi.Healthy
		}
		if d.NUMA >= 0 {
			out[i].Topology = &pluginapi.TopologyInfo{Nodes: []*pluginapi.NUMANode{{ID: int64(d.NUMA)}}}
		}
	}
	return &pluginapi.ListAndWatchResponse{Devices: out}
}

func (s *service) Allocate(_ context.Context, req *pluginapi.AllocateRequest) (*pluginapi.AllocateResponse, error) {
	began := time.Now()
	defer func() { s.metrics.AllocateTime.Observe(time.Since(began).Seconds()) }()
	p := s.list.now()
	out := &pluginapi.AllocateResponse{}
	for _, c := range req.ContainerRequests {
		a, err := p.Allocate(c.DevicesIds)
		if err != nil {
			s.metrics.Allocations.WithLabelValues(s.resource.String(), "error").Inc()
			s.log.Error("allocate", "devices", c.DevicesIds, "err", err)
			return nil, grpcError(err)
		}
		s.metrics.Allocations.WithLabelValues(s.resource.String(), "ok").Inc()
		s.log.Info("allocated", "devices", c.DevicesIds)
		out.ContainerResponses = append(out.ContainerResponses, containerResponse(a))
	}
	return out, nil
}

func containerResponse(a allocation.Answer) *pluginapi.ContainerAllocateResponse {
	r := &pluginapi.ContainerAllocateResponse{Envs: a.Env}
	for _, n := range a.Nodes {
		r.Devices = append(r.Devices, &pluginapi.DeviceSpec{HostPath: n.Host, ContainerPath: n.Container, Permissions: "rw"})
	}
	for _, name := range a.CDI {
		r.CdiDevices = append(r.CdiDevices, &pluginapi.CDIDevice{Name: name})
	}
	return r
}

func (s *service) GetPreferredAllocation(_ context.Context, req *pluginapi.PreferredAllocationRequest) (*pluginapi.PreferredAllocationResponse, error) {
	p := s.list.now()
	out := &pluginapi.PreferredAllocationResponse{}
	for _, c := range req.ContainerRequests {
		out.ContainerResponses = append(out.ContainerResponses, &pluginapi.ContainerPreferredAllocationResponse{
			DeviceIDs: p.Prefer(c.AvailableDeviceIDs, c.MustIncludeDeviceIDs, int(c.AllocationSize)),
		})
	}
	return out, nil
}

func (s *service) PreStartContainer(context.Context, *pluginapi.PreStartContainerRequest) (*pluginapi.PreStartContainerResponse, error) {
	return &pluginapi.PreStartContainerResponse{}, nil
}

// grpcError gives an error the status that its cause deserves.
func grpcError(err error) error {
	switch {
	case errors.Is(err, allocation.ErrUnknownDevice):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, allocation.ErrNoNode):
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return status.Error(codes.Internal, err.Error())
}
