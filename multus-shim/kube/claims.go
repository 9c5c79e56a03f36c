package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// Attributes of a ResourceSlice's device that tie it to device-plugin names.
const (
	attrDeviceID     = "k8s.cni.cncf.io/deviceID"
	attrResourceName = "k8s.cni.cncf.io/resourceName"
)

type allocated struct{ Driver, Pool, Device string }

type claim struct {
	Status struct {
		Allocation struct {
			Devices struct {
				Results []allocated `json:"results"`
			} `json:"devices"`
		} `json:"allocation"`
	} `json:"status"`
}

type slices struct {
	Items []struct {
		Spec struct {
			Driver  string                `json:"driver"`
			Pool    struct{ Name string } `json:"pool"`
			Devices []struct {
				Name       string `json:"name"`
				Attributes map[string]struct {
					String *string `json:"string"`
				} `json:"attributes"`
			} `json:"devices"`
		} `json:"spec"`
	} `json:"items"`
}

// ClaimedDevices returns device IDs by resource name out of the pod's resource
// claims (dynamic resource allocation, resource.k8s.io/v1). A device without
// the two attributes is not meant for a network.
func (c *Client) ClaimedDevices(ctx context.Context, pod *Pod) (map[string][]string, error) {
	byDriver := map[string][]allocated{}
	for _, ref := range pod.Status.ResourceClaims {
		if ref.ClaimName == nil {
			continue // the claim was not needed
		}
		var cl claim
		path := "apis/resource.k8s.io/v1/namespaces/" + url.PathEscape(pod.Metadata.Namespace) + "/resourceclaims/" + url.PathEscape(*ref.ClaimName)
		if err := c.do(ctx, request{method: http.MethodGet, path: path}, &cl); err != nil {
			return nil, fmt.Errorf("resourceclaim %s/%s: %w", pod.Metadata.Namespace, *ref.ClaimName, err)
		}
		for _, a := range cl.Status.Allocation.Devices.Results {
			byDriver[a.Driver] = append(byDriver[a.Driver], a)
		}
	}
	out := map[string][]string{}
	for driver, devices := range byDriver {
		list, err := c.driverSlices(ctx, driver, pod.Spec.NodeName)
		if err != nil {
			return nil, err
		}
		for _, a := range devices {
			if resource, id, ok := list.find(a); ok {
				out[resource] = append(out[resource], id)
			}
		}
	}
	return out, nil
}

func (c *Client) driverSlices(ctx context.Context, driver, node string) (*slices, error) {
	query := url.Values{"fieldSelector": {"spec.driver=" + driver + ",spec.nodeName=" + node}}
	var list slices
	err := c.do(ctx, request{method: http.MethodGet, path: "apis/resource.k8s.io/v1/resourceslices", query: query}, &list)
	if err != nil {
		return nil, fmt.Errorf("resourceslices of driver %s on node %s: %w", driver, node, err)
	}
	return &list, nil
}

func (s *slices) find(a allocated) (resource, id string, ok bool) {
	for _, slice := range s.Items {
		if slice.Spec.Driver != a.Driver || slice.Spec.Pool.Name != a.Pool {
			continue
		}
		for _, d := range slice.Spec.Devices {
			r, i := d.Attributes[attrResourceName].String, d.Attributes[attrDeviceID].String
			if d.Name == a.Device && r != nil && i != nil {
				return *r, *i, true
			}
		}
	}
	return "", "", false
}
