package node

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// inUse tells which VFs pods hold, by PCI address: those that the kubelet has handed
// out, as its pod-resources API lists them, and those whose netdev is elsewhere.
// Without a socket path only the latter are known.
func inUse(ctx context.Context, socket string, found []v1.InterfaceExt) (map[string]bool, error) {
	held := map[string]bool{}
	for _, pf := range found {
		for _, vf := range pf.VFs {
			if vf.Name == "" && plan.DriverFits(v1.DeviceTypeNetDevice, vf.Driver) {
				held[vf.PciAddress] = true
			}
		}
	}
	if socket == "" {
		return held, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("ask the kubelet which VFs are in use: %w", err)
	}
	defer conn.Close()
	// Nodes with hundreds of pods and devices exceed gRPC's default of 4 MiB.
	list, err := podresources.NewPodResourcesListerClient(conn).List(ctx, &podresources.ListPodResourcesRequest{}, grpc.MaxCallRecvMsgSize(64<<20))
	if err != nil {
		return nil, fmt.Errorf("ask the kubelet which VFs are in use: %w", err)
	}
	for _, pod := range list.GetPodResources() {
		for _, c := range pod.GetContainers() {
			for _, d := range c.GetDevices() {
				for _, id := range d.GetDeviceIds() {
					held[id] = true
				}
			}
		}
	}
	return held, nil
}
