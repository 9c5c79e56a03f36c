// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

const (
	// askLimit bounds the wait for an answer of the kubelet.
	askLimit = 10 * time.Second
	// withdrawLimit bounds the wait until the kubelet has learnt from the device plugin that
	// VFs are not offered any more, and withdrawPoll is how often it is asked: the API has no
	// way to be notified.
	withdrawLimit = 10 * time.Second
	withdrawPoll  = 50 * time.Millisecond
	// answerSize bounds an answer, bytes: with hundreds of pods and devices it exceeds gRPC's
	// default of 4 MiB.
	answerSize = 64 << 20
)

// kubelet finds out who holds VFs, from the kubelet's pod-resources API and from the files
// that have what the API leaves out. No source alone is complete.
type kubelet struct {
	socket   string
	unlisted unlisted
	pods     answers
	claims   claims
	prepared prepared
}

func (k kubelet) connect() (podresources.PodResourcesListerClient, func(), error) {
	conn, err := grpc.NewClient("unix://"+k.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, fmt.Errorf("ask the kubelet which VFs are in use: %w", err)
	}
	return podresources.NewPodResourcesListerClient(conn), func() { conn.Close() }, nil
}

// inUse returns the VFs in use by PCI address: those that the kubelet has handed out through a
// device plugin or a claim, and those whose netdev is in another namespace. The value is the
// pod's name, its UID if the kubelet does not list it, or "" if the pod is not known.
func (k kubelet) inUse(ctx context.Context, found []v1.InterfaceExt) (map[string]string, error) {
	held, _, err := k.query(ctx, found)
	return held, err
}

// query returns what inUse does and, in unclear, the VFs of pods that may have ended, with the
// pods' UIDs: only the API server knows. They count as in use until the operator has answered
// that the pod is gone.
func (k kubelet) query(ctx context.Context, found []v1.InterfaceExt) (held, unclear map[string]string, err error) {
	held = map[string]string{}
	for _, pf := range found {
		for _, vf := range pf.VFs {
			if vf.Name == "" && plan.DriverFits(v1.DeviceTypeNetDevice, vf.Driver) && plan.HasNetdev(&vf) {
				held[vf.PciAddress] = ""
			}
		}
	}
	recorded := k.claims.kept()
	records, adminDevices, err := k.claims.read() // before the kubelet's list, so that admin access is known of each claim that it still lists
	if err != nil {
		return nil, nil, err
	}
	for vf, c := range records {
		held[vf] = c.pod
	}
	if k.socket == "" {
		return held, nil, nil
	}
	client, done, err := k.connect()
	if err != nil {
		return nil, nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	list, err := client.List(ctx, &podresources.ListPodResourcesRequest{}, grpc.MaxCallRecvMsgSize(answerSize))
	if err != nil {
		return nil, nil, fmt.Errorf("ask the kubelet which VFs are in use: %w", err)
	}
	if len(list.GetPodResources()) == 0 { // impossible: the daemon is a pod itself
		return nil, nil, errors.New("ask the kubelet which VFs are in use: it lists no pod at all, so it has just started and does not know yet")
	}
	for _, pod := range list.GetPodResources() {
		name := pod.GetNamespace() + "/" + pod.GetName()
		for _, c := range pod.GetContainers() {
			for _, d := range c.GetDevices() {
				for _, id := range d.GetDeviceIds() {
					held[id] = name
				}
			}
			for _, claim := range c.GetDynamicResources() {
				if err := claimed(claim, name, adminDevices, held); err != nil {
					return nil, nil, err
				}
			}
		}
	}
	if err := k.prepared.read(held, recorded); err != nil {
		return nil, nil, err
	}
	begun, unclear, err := k.unlisted.read(held) // after the list: what was handed out before is in the checkpoint by now
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(held, begun)
	for vf, uid := range unclear {
		if k.pods[uid] != v1.PodGone {
			held[vf] = uid
		}
	}
	return held, unclear, nil
}

// pciName matches a PCI address in the name of a claimed device. Device names are DNS labels,
// so drivers write the address with dashes for colons and the dot.
var pciName = regexp.MustCompile(`(?:^|[^0-9a-f])([0-9a-f]{4,8})[-:]([0-9a-f]{2})[-:]([0-9a-f]{2})[-.]([0-7])(?:$|[^0-9a-f])`)

// functionOf returns the PCI address that a device name contains.
func functionOf(name string) (address string, ok bool) {
	at := pciName.FindStringSubmatch(name)
	if at == nil {
		return "", false
	}
	return fmt.Sprintf("%s:%s:%s.%s", at[1], at[2], at[3], at[4]), true
}

// claimed adds the PCI functions of a pod's claim to held, but for those with admin access,
// which the kubelet does not tell apart.
func claimed(claim *podresources.DynamicResource, pod string, adminDevices map[adminDevice]bool, held map[string]string) error {
	name := claim.GetClaimNamespace() + "/" + claim.GetClaimName()
	for _, device := range claim.GetClaimResources() {
		names := []string{device.GetDeviceName()}
		for _, cdi := range device.GetCdiDevices() {
			names = append(names, cdi.GetName())
		}
		known := false
		for _, text := range names {
			if address, ok := functionOf(text); ok {
				known = true
				if device.GetDriverName() != v1.DRADriver || !adminDevices[adminDevice{name, address}] {
					held[address] = pod
				}
			}
		}
		if !known && device.GetDriverName() == v1.DRADriver {
			return fmt.Errorf("ask the kubelet which VFs are in use: claim %s of pod %s has device %q of driver %s, which names no PCI address",
				name, pod, device.GetDeviceName(), v1.DRADriver)
		}
	}
	return nil
}

// awaitWithdrawn waits until neither the kubelet nor the DRA driver would hand out any of
// these VFs, and returns the VFs in use by then.
func (k kubelet) awaitWithdrawn(ctx context.Context, vfs []string, found []v1.InterfaceExt) (map[string]string, error) {
	waiting, end := context.WithTimeout(ctx, withdrawLimit)
	defer end()
	if err := k.claims.await(waiting); err != nil {
		return nil, err
	}
	if k.socket == "" {
		return k.inUse(ctx, found)
	}
	client, done, err := k.connect()
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, withdrawLimit)
	defer cancel()
	tick := time.NewTicker(withdrawPoll)
	defer tick.Stop()
	for {
		offered, err := allocatable(ctx, client)
		if err != nil {
			return nil, err
		}
		held, err := k.inUse(ctx, found) // after: a VF that was handed out before is listed by now
		if err != nil {
			return nil, err
		}
		left := slices.DeleteFunc(slices.Clone(vfs), func(vf string) bool {
			_, taken := held[vf]
			return taken || !offered[vf]
		})
		if len(left) == 0 {
			return held, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("the device plugin still offers %s to pods after %s: does it read the configuration that this daemon writes?",
				strings.Join(left, ", "), withdrawLimit)
		}
	}
}

// allocatable returns the IDs of the devices that the kubelet may hand out; none if the kubelet
// is too old for the call (before Kubernetes 1.21).
func allocatable(ctx context.Context, client podresources.PodResourcesListerClient) (map[string]bool, error) {
	answer, err := client.GetAllocatableResources(ctx, &podresources.AllocatableResourcesRequest{}, grpc.MaxCallRecvMsgSize(answerSize))
	if status.Code(err) == codes.Unimplemented {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("ask the kubelet which VFs pods may get: %w", err)
	}
	offered := map[string]bool{}
	for _, d := range answer.GetDevices() {
		for _, id := range d.GetDeviceIds() {
			offered[id] = true
		}
	}
	return offered, nil
}

// holders formats VFs and the pods that hold them for messages.
func holders(held map[string]string) string {
	var out []string
	for _, vf := range slices.Sorted(maps.Keys(held)) {
		if pod := held[vf]; pod != "" {
			vf += " (pod " + pod + ")"
		}
		out = append(out, vf)
	}
	return strings.Join(out, ", ")
}
