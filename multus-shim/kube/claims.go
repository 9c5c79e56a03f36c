// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Attributes of a ResourceSlice's device that tie it to device-plugin names.
const (
	attrDeviceID     = "k8s.cni.cncf.io/deviceID"
	attrResourceName = "k8s.cni.cncf.io/resourceName"
	attrPCI          = "resource.kubernetes.io/pciBusID" // of drivers that know nothing of the former
)

// DeviceIDAttributes are those that tell a device's ID, for errors.
const DeviceIDAttributes = attrDeviceID + " or " + attrPCI

// Claim is a resource claim and what was allocated for it.
type Claim struct {
	Metadata Metadata `json:"metadata"`
	Status   struct {
		Allocation *struct { // not nil in what the client returns
			Devices struct {
				Results []Allocated   `json:"results"`
				Config  []ClaimConfig `json:"config"`
			} `json:"devices"`
		} `json:"allocation"`
	} `json:"status"`
}

// Allocated is a device of a claim. Admin access looks at a device that somebody
// else has: it is not the pod's.
type Allocated struct {
	Request, Driver, Pool, Device string
	AdminAccess                   bool
}

// ClaimConfig is what a claim or its DeviceClass says to the driver of some requests.
type ClaimConfig struct {
	Requests []string `json:"requests"` // none: all
	Opaque   *struct {
		Driver     string          `json:"driver"`
		Parameters json.RawMessage `json:"parameters"`
	} `json:"opaque"`
}

// Published is what the driver of a device says of it to networks.
type Published struct {
	ID       string // "" if it says none
	Resource string // name of the device-plugin resource that it stands for, "" if none
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

// Claim reads a resource claim that is allocated, as those of a pod on a node are.
func (c *Client) Claim(ctx context.Context, namespace, name string) (*Claim, error) {
	var claim Claim
	path := "apis/resource.k8s.io/v1/namespaces/" + url.PathEscape(namespace) + "/resourceclaims/" + url.PathEscape(name)
	if err := c.do(ctx, request{method: http.MethodGet, path: path}, &claim); err != nil {
		return nil, fmt.Errorf("resourceclaim %s/%s: %w", namespace, name, err)
	}
	if err := claim.Metadata.check(namespace, name); err != nil {
		return nil, fmt.Errorf("resourceclaim: %w", err)
	}
	if claim.Status.Allocation == nil {
		return nil, fmt.Errorf("resourceclaim %s/%s is not allocated", namespace, name)
	}
	return &claim, nil
}

// Slices looks up devices in what their drivers publish (ResourceSlices), and lists each
// driver's once.
type Slices struct {
	client *Client
	node   func() (string, error)
	lists  map[string]*slices // by driver and node
}

// Slices returns an empty look-up. node tells the name of the pod's node; it is called
// only if it is not that of a device's pool.
func (c *Client) Slices(node func() (string, error)) *Slices {
	return &Slices{client: c, node: node, lists: map[string]*slices{}}
}

// Device finds an allocated device; false if it is not published.
func (s *Slices) Device(ctx context.Context, d Allocated) (Published, bool, error) {
	name := d.Pool // what drivers call the pool of a node
	for attempt := range 2 {
		if attempt == 1 {
			other, err := s.node()
			if err != nil || other == "" || other == name {
				return Published{}, false, err
			}
			name = other
		}
		key := d.Driver + "\x00" + name
		if s.lists[key] == nil {
			list, err := s.client.driverSlices(ctx, d.Driver, name)
			if err != nil {
				return Published{}, false, err
			}
			s.lists[key] = list
		}
		if found := s.lists[key].find(d); found != nil {
			return Published{ID: cmp.Or(found.text(attrDeviceID), found.text(attrPCI)), Resource: found.text(attrResourceName)}, true, nil
		}
	}
	return Published{}, false, nil
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

func (s *slices) find(a Allocated) *device {
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
	if d.Attributes[attribute].String == nil {
		return ""
	}
	return *d.Attributes[attribute].String
}
