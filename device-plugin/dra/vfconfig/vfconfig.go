// SPDX-License-Identifier: Apache-2.0

// Package vfconfig reads what a claim or a DeviceClass asks of a VF: the opaque
// parameters of kind VfConfig in an allocated ResourceClaim
// (https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/).
// Reading is pure and strict: keys are matched in exact case, and an unknown key, a
// second spelling and a value that cannot be meant are errors that name claim, request
// and key.
package vfconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	kjson "sigs.k8s.io/json"
)

// What opaque parameters have to say they are.
const (
	APIVersion = "sriovnetwork.k8snetworkplumbingwg.io/v1alpha1"
	Kind       = "VfConfig"
)

// KernelDriver as Config.Driver asks for the driver that the kernel chooses by itself.
const KernelDriver = "default"

// maxParameters bounds what is read of one set of parameters, in bytes. The API server
// has the same limit (OpaqueParametersMaxLength).
const maxParameters = 10 << 10

// Config is what is asked of each VF of a request. An empty field asks for nothing.
type Config struct {
	// Driver to bind the VF to while the claim lasts: a driver for user space such as
	// "vfio-pci", or KernelDriver.
	Driver string `json:"driver,omitempty"`
	// IfName is the interface's name in the pod, at most 15 bytes.
	IfName string `json:"ifName,omitempty"`
	// NetAttachDefName is the NetworkAttachmentDefinition that the meta plugin attaches
	// the VF with; NetAttachDefNamespace defaults to the claim's namespace.
	NetAttachDefName      string `json:"netAttachDefName,omitempty"`
	NetAttachDefNamespace string `json:"netAttachDefNamespace,omitempty"`
	// AddVhostMount gives the container /dev/vhost-net and /dev/net/tun; false, unlike nil,
	// does not though the class asks for it.
	AddVhostMount *bool `json:"addVhostMount,omitempty"`
}

type document struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Config     `json:",inline"`
}

// Of returns what an allocated claim asks for one of its requests. Configuration
// without requests is meant for all of them; where two say something of one field, the
// later counts, and the API server lists that of the class before that of the claim.
// request may name a subrequest ("vf/large"); parameters for "vf" are meant for it too.
func Of(claim *resourceapi.ResourceClaim, driver, request string) (Config, error) {
	var out Config
	if claim.Status.Allocation == nil {
		return out, nil
	}
	for _, c := range claim.Status.Allocation.Devices.Config {
		if c.Opaque == nil || c.Opaque.Driver != driver || !concerns(c.Requests, request) {
			continue
		}
		from := "claim"
		if c.Source == resourceapi.AllocationConfigSourceClass {
			from = "DeviceClass"
		}
		parsed, err := Parse(c.Opaque.Parameters.Raw)
		if err != nil {
			return Config{}, fmt.Errorf("request %s, parameters of the %s: %w", request, from, err)
		}
		out.override(parsed)
	}
	if out.NetAttachDefNamespace != "" && out.NetAttachDefName == "" {
		return Config{}, fmt.Errorf("request %s: netAttachDefNamespace %q without netAttachDefName", request, out.NetAttachDefNamespace)
	}
	return out, nil
}

func concerns(requests []string, request string) bool {
	main, _, _ := strings.Cut(request, "/")
	return len(requests) == 0 || slices.Contains(requests, request) || slices.Contains(requests, main)
}

func (c *Config) override(by Config) {
	for _, f := range []struct{ to, from *string }{
		{&c.Driver, &by.Driver},
		{&c.IfName, &by.IfName},
		{&c.NetAttachDefName, &by.NetAttachDefName},
		{&c.NetAttachDefNamespace, &by.NetAttachDefNamespace},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	if by.AddVhostMount != nil {
		c.AddVhostMount = by.AddVhostMount
	}
}

// Parse reads one set of parameters.
func Parse(raw []byte) (Config, error) {
	if len(raw) > maxParameters {
		return Config{}, fmt.Errorf("%d bytes of parameters; at most %d are read", len(raw), maxParameters)
	}
	if trimmed := bytes.TrimSpace(raw); len(trimmed) == 0 || trimmed[0] != '{' {
		return Config{}, fmt.Errorf("parameters are %.40q; want an object of kind %s", trimmed, Kind)
	}
	var doc document
	strict, err := kjson.UnmarshalStrict(raw, &doc)
	if err != nil {
		var wrongType *json.UnmarshalTypeError
		if errors.As(err, &wrongType) {
			return Config{}, fmt.Errorf("%s: want a %s, not %s", strings.TrimPrefix(wrongType.Field, "Config."), wrongType.Type, wrongType.Value)
		}
		return Config{}, fmt.Errorf("not JSON: %w", err)
	}
	// Another kind has other keys, so that is said first.
	switch {
	case doc.APIVersion != APIVersion:
		return Config{}, fmt.Errorf("apiVersion %.80q; want %q", doc.APIVersion, APIVersion)
	case doc.Kind != Kind:
		return Config{}, fmt.Errorf("kind %.80q; want %q", doc.Kind, Kind)
	case len(strict) > 0:
		return Config{}, fmt.Errorf("%.120s; known keys are driver, ifName, netAttachDefName, netAttachDefNamespace, addVhostMount", strict[0].Error())
	}
	if err := doc.validate(); err != nil {
		return Config{}, err
	}
	return doc.Config, nil
}

// validate checks what can be checked without the node.
func (c Config) validate() error {
	for _, check := range []struct {
		key, value string
		problems   func(string) []string
	}{
		{"driver", c.Driver, driverName},
		{"ifName", c.IfName, interfaceName},
		{"netAttachDefName", c.NetAttachDefName, validation.IsDNS1123Subdomain},
		{"netAttachDefNamespace", c.NetAttachDefNamespace, validation.IsDNS1123Label},
	} {
		if check.value == "" {
			continue
		}
		if p := check.problems(check.value); len(p) > 0 {
			return fmt.Errorf("%s %.80q: %s", check.key, check.value, p[0])
		}
	}
	return nil
}

// interfaceName holds a name to what the kernel takes (dev_valid_name in
// net/core/dev.c) without a pattern in it.
func interfaceName(s string) []string {
	switch {
	case len(s) > 15:
		return []string{"an interface name has at most 15 bytes"}
	case s == "." || s == ".." || strings.ContainsAny(s, "/:% \t\n\v\f\r") || strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' }):
		return []string{`want a name that the kernel takes: printable ASCII without "/", ":", "%" and spaces`}
	}
	return nil
}

func driverName(s string) []string {
	if len(s) > 63 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
		return []string{`want the name of a kernel driver such as "vfio-pci", or "default"`}
	}
	return nil
}
