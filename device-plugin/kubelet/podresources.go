package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
)

// Holder is a container that has a device.
type Holder struct {
	Resource                  config.Resource
	Device                    string
	Namespace, Pod, Container string
}

// holdersTime bounds a question to kubelet, which may be busy or hung.
const holdersTime = time.Second

// maxHolders is how long kubelet's answer may be, bytes; it lists every pod of
// the node.
const maxHolders = 16 << 20

// ErrNoPodResources: this kubelet does not serve its pod-resources API.
var ErrNoPodResources = errors.New("kubelet does not offer the pod-resources API")

// Holders asks kubelet, through its pod-resources socket, which containers hold
// devices of any plugin.
func Holders(ctx context.Context, socket string) ([]Holder, error) {
	if _, err := os.Stat(socket); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w at %s", ErrNoPodResources, socket)
	}
	ctx, cancel := context.WithTimeout(ctx, holdersTime)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxHolders)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	r, err := podresources.NewPodResourcesListerClient(conn).List(ctx, &podresources.ListPodResourcesRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask kubelet which pods hold devices: %w", err)
	}
	var out []Holder
	for _, pod := range r.PodResources {
		for _, c := range pod.Containers {
			for _, d := range c.Devices {
				prefix, name, _ := strings.Cut(d.ResourceName, "/")
				for _, id := range d.DeviceIds {
					out = append(out, Holder{
						Resource: config.Resource{Prefix: prefix, Name: name}, Device: id,
						Namespace: pod.Namespace, Pod: pod.Name, Container: c.Name,
					})
				}
			}
		}
	}
	return out, nil
}
