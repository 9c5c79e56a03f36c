// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
)

// Holder is a container that has a device, through kubelet's device manager or through a
// claim.
type Holder struct {
	Resource                  config.Resource // zero for a claim
	Device                    string          // its ID, see pool.DeviceID for those of claims
	Namespace, Pod, Container string
	Claim                     string // "namespace/name" of a ResourceClaim; "" without
	Driver                    string // DRA driver of the claim
}

// holdersTime bounds a question to kubelet, which may be busy or hung.
const holdersTime = time.Second

// maxHolders is how long kubelet's answer may be, bytes; it lists every pod of
// the node.
const maxHolders = 16 << 20

// ErrNoPodResources: kubelet's pod-resources API cannot be reached from here.
var ErrNoPodResources = errors.New("kubelet does not offer the pod-resources API")

// ErrNotListed: kubelet does not list the pod that asks, so it has just started and has not
// heard of its pods yet.
var ErrNotListed = errors.New("kubelet does not know its pods yet")

// AnyPod stands for a pod that does not know its name.
const AnyPod = "*"

// Self is the pod that this process runs in, as namespace/name: the environment's
// POD_NAMESPACE and POD_NAME, of the downward API. It is AnyPod in a pod that is not told
// both, and "" outside of pods.
func Self() string {
	namespace, name := os.Getenv("POD_NAMESPACE"), os.Getenv("POD_NAME")
	switch {
	case namespace != "" && name != "":
		return namespace + "/" + name
	case os.Getenv("KUBERNETES_SERVICE_HOST") != "": // which kubelet tells every container
		return AnyPod
	}
	return ""
}

// Holders asks kubelet, through its pod-resources socket, which containers hold
// devices of any plugin, and PCI functions and sub-functions of any DRA driver. The error
// wraps ErrNoPodResources where the directory of the socket does not exist; a socket that is
// missing in it is that of a kubelet that is not up. It wraps ErrNotListed if self, see
// [Self], is not among kubelet's pods; "" asks for none.
func Holders(ctx context.Context, socket, self string) ([]Holder, error) {
	r, err := listPods(ctx, socket, self)
	if err != nil {
		return nil, err
	}
	var out []Holder
	for _, pod := range r.PodResources {
		for _, c := range pod.Containers {
			of := Holder{Namespace: pod.Namespace, Pod: pod.Name, Container: c.Name}
			for _, d := range c.Devices {
				of.Resource.Prefix, of.Resource.Name, _ = strings.Cut(d.ResourceName, "/")
				for _, of.Device = range d.DeviceIds {
					out = append(out, of)
				}
			}
			of.Resource = config.Resource{}
			out = append(out, claimed(of, c.DynamicResources)...)
		}
	}
	return out, nil
}

// Listed names kubelet's pods and the claims that it has prepared for them, each as
// namespace/name. self and errors are those of Holders.
func Listed(ctx context.Context, socket, self string) (pods, claims map[string]bool, err error) {
	r, err := listPods(ctx, socket, self)
	if err != nil {
		return nil, nil, err
	}
	pods, claims = map[string]bool{}, map[string]bool{}
	for _, pod := range r.PodResources {
		pods[pod.Namespace+"/"+pod.Name] = true
		for _, c := range pod.Containers {
			for _, d := range c.DynamicResources {
				claims[d.ClaimNamespace+"/"+d.ClaimName] = true
			}
		}
	}
	return pods, claims, nil
}

func listPods(ctx context.Context, socket, self string) (*podresources.ListPodResourcesResponse, error) {
	if _, err := os.Stat(filepath.Dir(socket)); errors.Is(err, fs.ErrNotExist) {
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
	is := func(p *podresources.PodResources) bool { return self == AnyPod || p.Namespace+"/"+p.Name == self }
	if self != "" && !slices.ContainsFunc(r.PodResources, is) {
		return nil, fmt.Errorf("%w: it lists %d, and not %s", ErrNotListed, len(r.PodResources), self)
	}
	return r, nil
}

// TooOldForCDI reports whether a kubelet is known to ignore CDI devices in answers of
// plugins. It serves them since 1.28; the pod-resources method Get, which is asked for here,
// came with 1.27 and is refused in words where its gate is off. unknown if nobody answers.
func TooOldForCDI(ctx context.Context, socket string) (old bool, unknown error) {
	ctx, cancel := context.WithTimeout(ctx, holdersTime)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return false, err
	}
	defer conn.Close()
	_, err = podresources.NewPodResourcesListerClient(conn).Get(ctx, &podresources.GetPodResourcesRequest{})
	switch status.Code(err) {
	case codes.Unimplemented:
		return true, nil
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return false, err
	}
	return false, nil // it knows the method, whatever it thinks of a pod without a name
}

// claimed lists what a container has through claims.
func claimed(of Holder, claims []*podresources.DynamicResource) (out []Holder) {
	for _, claim := range claims {
		of.Claim = claim.ClaimNamespace + "/" + claim.ClaimName
		for _, d := range claim.ClaimResources {
			id, ok := pool.DeviceID(d.DeviceName)
			if !ok {
				continue // hardware of another kind
			}
			of.Device, of.Driver = id, d.DriverName
			out = append(out, of)
		}
	}
	return out
}
