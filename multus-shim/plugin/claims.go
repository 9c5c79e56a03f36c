// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/sriovkit/sriovkit/multus-shim/annotation"
	"github.com/sriovkit/sriovkit/multus-shim/claim"
	"github.com/sriovkit/sriovkit/multus-shim/kube"
	"github.com/sriovkit/sriovkit/multus-shim/plan"
)

// claims is what was read of the pod's resource claims.
type claims struct {
	list   []*kube.Claim
	slices *kube.Slices
}

// claimedNetwork is a network that a claim asks for, with its device.
type claimedNetwork struct {
	claim.Network
	device kube.Published
}

// preparedState is the kubelet's list of the claims that it prepared and of their pods'
// UIDs, in its directory. It is on the disk before a driver is asked to prepare
// (k8s.io/kubernetes/pkg/kubelet/cm/dra), so before the sandbox is made.
const preparedState = "dra_manager_state"

// mayHaveClaims reports, without a request, whether the pod may have claims: its object is
// known, or the kubelet's list has its UID. Where there is no list no claim was ever prepared.
func (c *call) mayHaveClaims(p *pod) (bool, error) {
	if p.object != nil {
		return len(p.object.Claims()) > 0, nil
	}
	if p.Name == "" || p.Namespace == "" {
		return false, nil
	}
	data, err := os.ReadFile(filepath.Join(c.conf.KubeletDir, preparedState))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	// A runtime that passes no UID leaves the question whether any pod has claims.
	return bytes.Contains(data, []byte(cmp.Or(p.UID, "PodUIDs"))) || !preparedList(data), err
}

// preparedList reports whether data has the form of the kubelet's list: with claims or without,
// it has this key since Kubernetes 1.32, and had a version before. One cut off, or {}, does not
// tell that a pod has no claims.
func preparedList(data []byte) bool {
	return json.Valid(data) && (bytes.Contains(data, []byte("ClaimInfoStateList")) || bytes.Contains(data, []byte(`"version"`)))
}

// claimedNetworks returns the networks that the pod's claims ask for.
func (c *call) claimedNetworks(ctx context.Context, p *pod) ([]claimedNetwork, error) {
	some, err := c.mayHaveClaims(p)
	if err != nil {
		return nil, coded(types.ErrTryAgainLater, err)
	}
	if !some {
		return nil, nil
	}
	all, err := c.claims(ctx, p, nil)
	if err != nil || all == nil {
		return nil, coded(types.ErrTryAgainLater, err)
	}
	var out []claimedNetwork
	for _, one := range all.list {
		networks, err := claim.Networks(one)
		if err != nil {
			return nil, coded(types.ErrInvalidNetworkConfig, err)
		}
		for _, n := range networks {
			device, found, err := all.slices.Device(ctx, n.Device)
			switch {
			case err != nil:
				return nil, coded(types.ErrTryAgainLater, n.Wrap(err))
			case !found:
				return nil, coded(types.ErrTryAgainLater, n.Wrap(fmt.Errorf("network %s: device %s of pool %s is in no ResourceSlice of driver %s",
					n.Selection.Ref(), n.Device.Device, n.Device.Pool, n.Device.Driver)))
			case device.ID == "":
				return nil, coded(types.ErrInvalidNetworkConfig, n.Wrap(fmt.Errorf("network %s: driver %s publishes device %s without an attribute that tells its ID (%s)",
					n.Selection.Ref(), n.Device.Driver, n.Device.Device, kube.DeviceIDAttributes)))
			}
			out = append(out, claimedNetwork{n, device})
		}
	}
	return out, nil
}

// addClaimed adds the networks of claims to those that the pod selects. A selection of
// the same NAD is that network: it may ask for addresses or another interface name.
func (c *call) addClaimed(wants []want, p *pod, claimed []claimedNetwork) ([]want, error) {
	if limit := c.conf.Policy.MaxNetworks; len(claimed) > limit {
		return nil, fmt.Errorf("resource claims: %d networks are more than the %d a pod may select (maxNetworks in the configuration of multus-shim)", len(claimed), limit)
	}
	for i := range claimed {
		n := &claimed[i]
		same := slices.IndexFunc(wants, func(w want) bool {
			return w.load && !w.orFile && w.claimed == nil && w.network.Selection.Ref() == n.Selection.Ref()
		})
		if same < 0 {
			if err := plan.Allowed(c.conf.Isolation, p.Namespace, c.conf.GlobalNamespaces, n.Selection); err != nil {
				return nil, n.Wrap(err)
			}
			same = len(wants)
			wants = append(wants, want{network: plan.Network{Selection: annotation.Selection{Namespace: n.Selection.Namespace, Name: n.Selection.Name}}, load: true})
		}
		w := &wants[same]
		w.claimed = n
		if w.network.Selection.Interface == "" {
			w.network.Selection.Interface = n.Selection.Interface
		}
	}
	return wants, nil
}

// claims reads the pod's claims, once: those of the names, else those of the pod. It
// returns nil where no API server is configured or the pod has none.
func (c *call) claims(ctx context.Context, p *pod, names []string) (*claims, error) {
	if p.claims != nil {
		return p.claims, nil
	}
	if len(names) == 0 {
		if err := c.readPod(ctx, p); err != nil || p.object == nil {
			return nil, err
		}
		names = p.object.Claims()
	}
	client, err := c.api()
	if err != nil || client == nil || len(names) == 0 {
		return nil, err
	}
	all := &claims{slices: client.Slices(func() (string, error) {
		if err := c.readPod(ctx, p); err != nil || p.object == nil {
			return "", err
		}
		return p.object.Spec.NodeName, nil
	})}
	names = slices.Sorted(slices.Values(names)) // in one order for every try of an ADD
	for _, name := range slices.Compact(names) {
		one, err := client.Claim(ctx, p.Namespace, name)
		if err != nil {
			return nil, err
		}
		all.list = append(all.list, one)
	}
	p.claims = all
	return all, nil
}

// claimedDevices returns IDs by resource name of the devices of the pod's claims. A
// device without the two attributes is not meant for a network, and one that is only
// looked at (admin access) is not the pod's.
func (c *call) claimedDevices(ctx context.Context, p *pod, names []string) (plan.Devices, error) {
	all, err := c.claims(ctx, p, names)
	if err != nil || all == nil {
		return nil, err
	}
	out := plan.Devices{}
	for _, one := range all.list {
		for _, d := range one.Status.Allocation.Devices.Results {
			if d.AdminAccess {
				continue
			}
			device, _, err := all.slices.Device(ctx, d)
			if err != nil {
				return nil, err
			}
			if device.Resource != "" && device.ID != "" {
				out[device.Resource] = append(out[device.Resource], device.ID)
			}
		}
	}
	return out, nil
}
