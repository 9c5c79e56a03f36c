// SPDX-License-Identifier: Apache-2.0

package podresources

import (
	"fmt"
	"slices"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
)

// encodeGet is GetPodResourcesRequest{pod_name = 1, pod_namespace = 2}.
func encodeGet(pod conf.Pod) []byte {
	return appendString(appendString(nil, 1, pod.Name), 2, pod.Namespace)
}

// decodeReply reads GetPodResourcesResponse and ListPodResourcesResponse, both
// of which hold PodResources in field 1, and keeps what is of one pod.
//
//	PodResources       name = 1, namespace = 2, containers = 3
//	ContainerResources devices = 2, dynamic_resources = 5
//	ContainerDevices   resource_name = 1, device_ids = 2
//	DynamicResource    claim_name = 2, claim_namespace = 3
func decodeReply(reply []byte, pod conf.Pod) (Found, error) {
	found := Found{Devices: map[string][]string{}}
	err := fields(reply, func(number int, value []byte) error {
		if number != 1 {
			return nil
		}
		var name, namespace string
		var containers [][]byte
		if err := fields(value, func(number int, value []byte) error {
			switch number {
			case 1:
				name = string(value)
			case 2:
				namespace = string(value)
			case 3:
				containers = append(containers, value)
			}
			return nil
		}); err != nil {
			return err
		}
		if name != pod.Name || namespace != pod.Namespace {
			return nil
		}
		for _, c := range containers {
			if err := decodeContainer(c, &found); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Found{}, fmt.Errorf("kubelet pod-resources: %w", err)
	}
	return found, nil
}

func decodeContainer(container []byte, found *Found) error {
	devices := map[string][]string{}
	err := fields(container, func(number int, value []byte) error {
		switch number {
		case 2:
			return decodeDevices(value, devices)
		case 5:
			claim := ""
			err := fields(value, func(number int, value []byte) error {
				if number == 2 {
					claim = string(value)
				}
				return nil
			})
			if claim != "" && !slices.Contains(found.Claims, claim) { // containers may share one
				found.Claims = append(found.Claims, claim)
			}
			return err
		}
		return nil
	})
	for resource, ids := range devices {
		slices.Sort(ids) // a resource has several entries in a container, one per NUMA node
		found.Devices[resource] = append(found.Devices[resource], ids...)
	}
	return err
}

func decodeDevices(message []byte, devices map[string][]string) error {
	var resource string
	var ids []string
	err := fields(message, func(number int, value []byte) error {
		switch number {
		case 1:
			resource = string(value)
		case 2:
			ids = append(ids, string(value))
		}
		return nil
	})
	devices[resource] = append(devices[resource], ids...)
	return err
}
