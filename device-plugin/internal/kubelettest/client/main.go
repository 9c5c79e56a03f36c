// SPDX-License-Identifier: Apache-2.0

// Client stands in for kubelet's device manager in benchmarks: it watches every pool whose
// socket is in a registry, and asks for devices of several plugins by turns, so that
// whatever else the machine does meets all of them alike.
//
//	client -registry DIR -calls 500
//
// It prints one JSON object, the answer times by resource prefix, and stays connected until
// its standard input ends.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

func main() {
	registry := flag.String("registry", "/var/lib/kubelet/plugins_registry", "`directory` of the plugins' sockets")
	calls := flag.Int("calls", 0, "Allocate calls of each plugin")
	flag.Parse()
	if err := run(context.Background(), *registry, *calls, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

// patience bounds every single step.
const patience = time.Minute

func run(ctx context.Context, registry string, calls int, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	paths, err := filepath.Glob(filepath.Join(registry, "*.sock"))
	if err != nil {
		return err
	}
	plugins := map[string][]*pool{} // by resource prefix
	for _, path := range paths {
		p, err := watch(ctx, path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		plugins[p.prefix] = append(plugins[p.prefix], p)
	}
	if len(plugins) == 0 {
		return fmt.Errorf("no sockets in %s", registry)
	}
	times, err := allocate(ctx, plugins, calls)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(times); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// pool is one resource as kubelet sees it.
type pool struct {
	prefix, name string
	client       pluginapi.DevicePluginClient
	devices      []string
}

// watch connects to a socket as kubelet does, and follows its list of devices from then on.
func watch(ctx context.Context, path string) (*pool, error) {
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	registration := registerapi.NewRegistrationClient(conn)
	info, err := registration.GetInfo(short, &registerapi.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	p := &pool{client: pluginapi.NewDevicePluginClient(conn)}
	p.prefix, p.name, _ = strings.Cut(info.Name, "/")
	if _, err := registration.NotifyRegistrationStatus(short, &registerapi.RegistrationStatus{PluginRegistered: true}); err != nil {
		return nil, err
	}
	stream, err := p.client.ListAndWatch(ctx, &pluginapi.Empty{})
	if err != nil {
		return nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	for _, d := range first.Devices {
		p.devices = append(p.devices, d.ID)
	}
	go func() { // as kubelet reads it, so that the plugin can write
		for err == nil {
			_, err = stream.Recv()
		}
	}()
	return p, nil
}

// allocate asks each plugin for a device in turn, first of one pool, then of the next.
func allocate(ctx context.Context, plugins map[string][]*pool, calls int) (map[string][]time.Duration, error) {
	times := map[string][]time.Duration{}
	for prefix, pools := range plugins {
		times[prefix] = []time.Duration{}
		slices.SortFunc(pools, func(a, b *pool) int { return strings.Compare(a.name, b.name) })
	}
	order := slices.Sorted(maps.Keys(plugins))
	for i := range calls {
		slices.Reverse(order) // nobody is always the first
		for _, prefix := range order {
			p := plugins[prefix][i%len(plugins[prefix])]
			took, err := p.allocate(ctx, i/len(plugins[prefix]))
			if err != nil {
				return nil, fmt.Errorf("%s/%s: %w", prefix, p.name, err)
			}
			times[prefix] = append(times[prefix], took)
		}
	}
	return times, nil
}

func (p *pool) allocate(ctx context.Context, i int) (time.Duration, error) {
	if len(p.devices) == 0 {
		return 0, errors.New("no devices")
	}
	id := p.devices[i%len(p.devices)]
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request := &pluginapi.AllocateRequest{ContainerRequests: []*pluginapi.ContainerAllocateRequest{{DevicesIds: []string{id}}}}
	began := time.Now()
	_, err := p.client.Allocate(ctx, request)
	return time.Since(began), err
}
