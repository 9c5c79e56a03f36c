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

// allocated is a device of a claim. Admin access looks at a device that somebody
// else has: it is not the pod's.
type allocated struct {
	Driver, Pool, Device string
	AdminAccess          bool
}

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
			Devices []device              `json:"devices"`
		} `json:"spec"`
	} `json:"items"`
}

type device struct {
	Name       string `json:"name"`
	Attributes map[string]struct {
		String *string `json:"string"`
	} `json:"attributes"`
}

// ClaimedDevices returns device IDs by resource name out of resource claims of a
// namespace (dynamic resource allocation, resource.k8s.io/v1), in the order of the
// claims and of the devices in each. A device without the two attributes is not
// meant for a network. node tells the name of the pod's node; it is called only if
// it is not that of the devices' pool.
func (c *Client) ClaimedDevices(ctx context.Context, namespace string, claims []string, node func() (string, error)) (map[string][]string, error) {
	var devices []allocated
	for _, name := range claims {
		var cl claim
		path := "apis/resource.k8s.io/v1/namespaces/" + url.PathEscape(namespace) + "/resourceclaims/" + url.PathEscape(name)
		if err := c.do(ctx, request{method: http.MethodGet, path: path}, &cl); err != nil {
			return nil, fmt.Errorf("resourceclaim %s/%s: %w", namespace, name, err)
		}
		for _, d := range cl.Status.Allocation.Devices.Results {
			if !d.AdminAccess {
				devices = append(devices, d)
			}
		}
	}
	out := map[string][]string{}
	lists := map[string]*slices{} // by driver and node
	for _, d := range devices {
		published, err := c.published(ctx, d, node, lists)
		if err != nil {
			return nil, err
		}
		resource, id := published.text(attrResourceName), published.text(attrDeviceID)
		if resource != "" && id != "" {
			out[resource] = append(out[resource], id)
		}
	}
	return out, nil
}

// published finds a device in the slices of its driver, nil if it is not there.
func (c *Client) published(ctx context.Context, d allocated, node func() (string, error), lists map[string]*slices) (*device, error) {
	name := d.Pool // what drivers call the pool of a node
	for attempt := range 2 {
		if attempt == 1 {
			other, err := node()
			if err != nil {
				return nil, err
			}
			if other == "" || other == name {
				return nil, nil
			}
			name = other
		}
		key := d.Driver + "\x00" + name
		if lists[key] == nil {
			list, err := c.driverSlices(ctx, d.Driver, name)
			if err != nil {
				return nil, err
			}
			lists[key] = list
		}
		if found := lists[key].find(d); found != nil {
			return found, nil
		}
	}
	return nil, nil
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

func (s *slices) find(a allocated) *device {
	for _, slice := range s.Items {
		if slice.Spec.Driver != a.Driver || slice.Spec.Pool.Name != a.Pool {
			continue
		}
		for i, d := range slice.Spec.Devices {
			if d.Name == a.Device {
				return &slice.Spec.Devices[i]
			}
		}
	}
	return nil
}

// text is a string attribute of a device, "" if it has none.
func (d *device) text(attribute string) string {
	if d == nil || d.Attributes[attribute].String == nil {
		return ""
	}
	return *d.Attributes[attribute].String
}
