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
	// askLimit for an answer of the kubelet's.
	askLimit = 10 * time.Second
	// withdrawLimit for the kubelet to hear from the device plugin that it does not offer
	// VFs any more, and withdrawPoll how often it is asked: it does not tell by itself.
	withdrawLimit = 10 * time.Second
	withdrawPoll  = 50 * time.Millisecond
	// answerSize: nodes with hundreds of pods and devices exceed gRPC's default of 4 MiB.
	answerSize = 64 << 20
)

// kubelet asks the kubelet, over its pod-resources socket, who holds VFs, and reads what it
// does not tell there and what the DRA driver has begun. Without a socket only netdevs and
// records tell.
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

// inUse lists the VFs that pods hold, by PCI address, with the pods' names, or UIDs where the
// kubelet does not list them, as far as they are known: VFs that the kubelet has handed out
// through a device plugin or a claim, and those whose netdev is elsewhere.
func (k kubelet) inUse(ctx context.Context, found []v1.InterfaceExt) (map[string]string, error) {
	held, _, err := k.look(ctx, found)
	return held, err
}

// look is inUse, and beside it lists the VFs of pods that only the API server knows about,
// with the pods' UIDs. Those are among the VFs in use, unless it has said that the pod is gone.
func (k kubelet) look(ctx context.Context, found []v1.InterfaceExt) (held, unclear map[string]string, err error) {
	held = map[string]string{}
	for _, pf := range found {
		for _, vf := range pf.VFs {
			if vf.Name == "" && plan.DriverFits(v1.DeviceTypeNetDevice, vf.Driver) && plan.HasNetdev(&vf) {
				held[vf.PciAddress] = ""
			}
		}
	}
	recorded := k.claims.kept()
	records, looks, err := k.claims.read() // first: what ends meanwhile is gone from both
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
	if len(list.GetPodResources()) == 0 { // this daemon is a pod itself
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
				if err := claimed(claim, name, looks, held); err != nil {
					return nil, nil, err
				}
			}
		}
	}
	if err := k.prepared.read(held, recorded); err != nil {
		return nil, nil, err
	}
	begun, unclear, err := k.unlisted.read(held) // after: what was given before is in it, and a pod that ended is gone from the list
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

// pciName finds a PCI address in the name of a claimed device: names of devices are DNS
// labels, so its colons and its dot are dashes there.
var pciName = regexp.MustCompile(`(?:^|[^0-9a-f])([0-9a-f]{4,8})[-:]([0-9a-f]{2})[-:]([0-9a-f]{2})[-.]([0-7])(?:$|[^0-9a-f])`)

// functionOf is the PCI address in a name.
func functionOf(name string) (address string, ok bool) {
	at := pciName.FindStringSubmatch(name)
	if at == nil {
		return "", false
	}
	return fmt.Sprintf("%s:%s:%s.%s", at[1], at[2], at[3], at[4]), true
}

// claimed adds the PCI functions of a claim that is prepared for a pod, but for those that it
// only looks at, of which the kubelet does not tell.
func claimed(claim *podresources.DynamicResource, pod string, looks map[look]bool, held map[string]string) error {
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
				if device.GetDriverName() != v1.DRADriver || !looks[look{name, address}] {
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

// awaitWithdrawn waits until neither the kubelet nor the DRA driver gives any of these VFs
// to new pods, and returns who holds them then.
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
		held, err := k.inUse(ctx, found) // after: who got one before is listed by now
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

// allocatable lists what the kubelet would give to pods, by device ID. A kubelet that
// does not tell is taken at its word about pods alone.
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

// holders lists VFs with the pods that hold them, for people.
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
