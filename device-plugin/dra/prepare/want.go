// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"errors"
	"fmt"

	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/dra/vfconfig"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	resourceapi "k8s.io/api/resource/v1"
)

// Annotations that Kubernetes sets on the claims it makes.
const (
	annotationPodClaim         = resourceapi.PodResourceClaimAnnotation
	annotationExtendedResource = "resource.kubernetes.io/extended-resource-claim"
)

// want reads from an allocated claim what is asked of this node, and which driver for
// which device. It changes nothing.
func (p *Preparer) want(claim *resourceapi.ResourceClaim) (record.Claim, map[string]string, error) {
	want := record.Claim{
		UID: claim.UID, Namespace: claim.Namespace, Name: claim.Name, BootID: p.BootID,
		PodClaim: claim.Annotations[annotationPodClaim],
		// In the claim that stands for extended resources each container has requests
		// of its own, as it has devices of its own from the device plugin.
		PerRequest: claim.Annotations[annotationExtendedResource] == "true",
	}
	if claim.Status.Allocation == nil {
		return want, nil, errors.New("is not allocated")
	}
	drivers := map[string]string{}
	for _, result := range claim.Status.Allocation.Devices.Results {
		if result.Driver != p.Driver {
			continue
		}
		if result.Pool != p.Node {
			return want, nil, fmt.Errorf("request %s: device %s is of pool %.80q; this node's pool is %q", result.Request, result.Device, result.Pool, p.Node)
		}
		if err := p.add(&want, claim, result, drivers); err != nil {
			return want, nil, err
		}
	}
	if len(want.Requests) == 0 {
		return want, nil, fmt.Errorf("none of its devices is of driver %s", p.Driver)
	}
	var err error
	want.Pod, err = consumer(claim, want.Devices())
	return want, drivers, err
}

// consumer is the one pod that a claim is reserved for. A VF has one user, and any number of
// pods may look at it.
func consumer(claim *resourceapi.ResourceClaim, used []string) (record.Pod, error) {
	reserved := claim.Status.ReservedFor
	switch {
	case len(reserved) == 0:
		return record.Pod{}, errors.New("is reserved for nobody: its pod is gone, or was not scheduled")
	case len(reserved) > 1 && len(used) > 0:
		return record.Pod{}, fmt.Errorf("is reserved for %d consumers; a VF belongs to one pod: give each pod a claim of its own, with a ResourceClaimTemplate", len(reserved))
	case reserved[0].APIGroup != "" || reserved[0].Resource != "pods":
		return record.Pod{}, fmt.Errorf("is reserved for %s %s; want a pod", reserved[0].Resource, reserved[0].Name)
	}
	return record.Pod{UID: reserved[0].UID, Name: reserved[0].Name}, nil
}

// add puts an allocated device to its request.
func (p *Preparer) add(want *record.Claim, claim *resourceapi.ResourceClaim, result resourceapi.DeviceRequestAllocationResult, drivers map[string]string) error {
	admin := result.AdminAccess != nil && *result.AdminAccess
	asked, err := vfconfig.Of(claim, p.Driver, result.Request)
	if err != nil {
		return err
	}
	id, ok := pool.DeviceID(result.Device)
	if !ok || pool.DRAName(id) != result.Device { // each device has one name
		return fmt.Errorf("request %s: %s: %w", result.Request, result.Device, ErrNoDevice)
	}
	if !admin && want.Holds(id) {
		return fmt.Errorf("request %s: %s is in the claim twice", result.Request, id)
	}
	in, _, ok := p.Lookup(id)
	if !ok {
		return fmt.Errorf("request %s: %s: %w", result.Request, id, ErrNoDevice)
	}
	if asked.Driver != "" && !admin {
		drivers[id] = asked.Driver
	}
	r := request(want, result.Request)
	r.AdminAccess = admin
	r.VhostNet = asked.AddVhostMount != nil && *asked.AddVhostMount
	if asked.NetAttachDefName != "" {
		namespace := asked.NetAttachDefNamespace
		if namespace == "" {
			namespace = claim.Namespace
		}
		r.Network = namespace + "/" + asked.NetAttachDefName
	}
	r.Devices = append(r.Devices, record.Device{ID: id, Name: result.Device, Resource: in.Resource, ShareID: result.ShareID})
	return nil
}

// request finds a request by name and makes it if it is new.
func request(c *record.Claim, name string) *record.Request {
	for i := range c.Requests {
		if c.Requests[i].Name == name {
			return &c.Requests[i]
		}
	}
	c.Requests = append(c.Requests, record.Request{Name: name})
	return &c.Requests[len(c.Requests)-1]
}
