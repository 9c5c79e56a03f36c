// SPDX-License-Identifier: Apache-2.0

// Package claim reads which networks a pod's resource claims ask for (dynamic resource
// allocation, resource.k8s.io/v1): the allocated configuration of a request may name a
// NetworkAttachmentDefinition, which is then attached with the request's devices although
// the pod has no annotation. The configuration is an opaque document of kind VfConfig,
// whichever driver it is for; the driver reads the rest of it.
package claim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/multus-shim/annotation"
	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
	"github.com/sriovkit/sriovkit/multus-shim/kube"
	"github.com/sriovkit/sriovkit/multus-shim/rawjson"
)

// What the opaque parameters of a request say they are. Others are not for networks.
const (
	group   = "sriovnetwork.k8snetworkplumbingwg.io"
	version = "v1alpha1"
	kind    = "VfConfig"
)

// Network is a device of a claim and the network that it is attached to.
type Network struct {
	Claim     string // "namespace/name"
	Request   string // "request", or "request/subrequest"
	Selection annotation.Selection
	Device    kube.Allocated
}

// Wrap names claim and request in an error about the network.
func (n Network) Wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("claim %s, request %s: %w", n.Claim, n.Request, err)
}

// Networks returns what an allocated claim asks for: one network for each device of a
// request that names one, in the order of the allocation. A device that is only looked
// at (admin access) is attached to nothing.
func Networks(c *kube.Claim) ([]Network, error) {
	var out []Network
	requests := map[string]string{} // by interface
	for _, device := range c.Status.Allocation.Devices.Results {
		if device.AdminAccess {
			continue
		}
		n := Network{Claim: c.Metadata.Namespace + "/" + c.Metadata.Name, Request: device.Request, Device: device}
		asked, err := configOf(c, device)
		if err != nil {
			return nil, n.Wrap(err)
		}
		if asked.NAD == "" {
			continue
		}
		n.Selection, err = annotation.New(cmp.Or(asked.Namespace, c.Metadata.Namespace), asked.NAD, asked.Interface)
		if err != nil {
			return nil, n.Wrap(err)
		}
		if other, taken := requests[asked.Interface]; taken && asked.Interface != "" {
			return nil, n.Wrap(fmt.Errorf("ifName %q is already that of a device of request %s; leave it out where a request has several devices",
				asked.Interface, other))
		}
		requests[asked.Interface] = n.Request
		out = append(out, n)
	}
	return out, nil
}

// config are the keys of VfConfig that concern the network.
type config struct{ NAD, Namespace, Interface string }

// configOf merges all configuration that concerns a device: that without requests is for
// all of them, and of each key the last counts. The API server lists that of the class
// before that of the claim.
func configOf(c *kube.Claim, device kube.Allocated) (config, error) {
	var out config
	for _, source := range c.Status.Allocation.Devices.Config {
		if source.Opaque == nil || source.Opaque.Driver != device.Driver || !concerns(source.Requests, device.Request) {
			continue
		}
		if err := out.override(source.Opaque.Parameters); err != nil {
			return config{}, err
		}
	}
	if out.NAD == "" && out.Namespace != "" {
		return config{}, fmt.Errorf("netAttachDefNamespace %q without netAttachDefName", brief.Text(out.Namespace))
	}
	return out, nil
}

// concerns: configuration for a request is also for its subrequests ("request/sub").
func concerns(requests []string, request string) bool {
	main, _, _ := strings.Cut(request, "/")
	return len(requests) == 0 || slices.Contains(requests, request) || slices.Contains(requests, main)
}

// override takes what a document says, unless it is of another kind.
func (c *config) override(parameters json.RawMessage) error {
	var document struct{ APIVersion, Kind string }
	if json.Unmarshal(parameters, &document) != nil || document.Kind != kind {
		return nil //nolint:nilerr // it is of another kind
	}
	switch of, v, _ := strings.Cut(document.APIVersion, "/"); {
	case of != group:
		return nil
	case v != version:
		return fmt.Errorf("parameters of kind %s: apiVersion %q: want %s/%s", kind, brief.Text(document.APIVersion), group, version)
	}
	object, err := rawjson.Parse(parameters)
	if err != nil {
		return fmt.Errorf("parameters of kind %s: %w", kind, err)
	}
	for _, member := range []struct {
		key    string
		target *string
	}{{"netAttachDefName", &c.NAD}, {"netAttachDefNamespace", &c.Namespace}, {"ifName", &c.Interface}} {
		value, err := text(object, member.key)
		if err != nil {
			return fmt.Errorf("parameters of kind %s: %w", kind, err)
		}
		*member.target = cmp.Or(value, *member.target)
	}
	return nil
}

// text is a string member. Drivers read it in exact case and once only: another spelling would
// count here and not there.
func text(object rawjson.Object, key string) (string, error) {
	value, found := "", false
	for _, m := range object {
		switch {
		case !strings.EqualFold(m.Key, key):
			continue
		case m.Key != key || found:
			return "", fmt.Errorf("key %q: want %s once, spelled like this", brief.Text(m.Key), key)
		}
		found = true
		if err := json.Unmarshal(m.Value, &value); err != nil {
			return "", fmt.Errorf("%s %s: want a string", key, brief.Text(string(m.Value)))
		}
	}
	return value, nil
}
