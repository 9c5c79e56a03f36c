// SPDX-License-Identifier: Apache-2.0

// Package annotation reads the network selections of a pod: the annotations
// k8s.v1.cni.cncf.io/networks and v1.multus-cni.io/default-network of the
// Network Plumbing Working Group's specification
// (https://github.com/k8snetworkplumbingwg/multi-net-spec, section 4). A value
// the specification calls invalid is an error here: a network that is silently
// missing costs its owner more than a pod that says why it does not start.
package annotation

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/utils"

	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
)

// The annotations that select networks.
const (
	Networks       = "k8s.v1.cni.cncf.io/networks"
	DefaultNetwork = "v1.multus-cni.io/default-network"
)

// maxSize is the limit of the API server for all annotations of one object.
const maxSize = 256 << 10

// MaxSelections is how many networks one annotation may select by default.
const MaxSelections = 64

// Selection is one requested attachment.
type Selection struct {
	Namespace string // of the NetworkAttachmentDefinition
	Name      string
	Interface string // "": package plan chooses

	IPs          []string // addresses, with or without prefix length
	MAC          string   // 6 bytes
	GUID         string   // InfiniBand, 8 bytes
	PortMappings []PortMapping
	Bandwidth    *Bandwidth
	CNIArgs      json.RawMessage // an object, merged into "args.cni" of the network
	DeviceID     string          // when the network's resource gives none

	// DefaultRoute: nil when not asked for; without gateways, the attachment
	// keeps the default routes its own plugin set; at most one per family.
	DefaultRoute *DefaultRoute

	Ignored []string // keys nobody reads, for a warning; the first few
}

// DefaultRoute asks for the default route to leave through this attachment.
type DefaultRoute struct {
	Gateways []netip.Addr
}

// PortMapping is one element of runtimeConfig.portMappings.
type PortMapping struct {
	HostPort      int    `json:"hostPort"`      // 1 to 65535
	ContainerPort int    `json:"containerPort"` // 1 to 65535
	Protocol      string `json:"protocol"`      // tcp, udp or sctp
	HostIP        string `json:"hostIP,omitempty"`
}

// Bandwidth is runtimeConfig.bandwidth: rates in bit/s, bursts in bit.
type Bandwidth struct {
	IngressRate  int64 `json:"ingressRate,omitempty"`
	IngressBurst int64 `json:"ingressBurst,omitempty"`
	EgressRate   int64 `json:"egressRate,omitempty"`
	EgressBurst  int64 `json:"egressBurst,omitempty"`
}

// Ref is "namespace/name", as users write it.
func (s Selection) Ref() string { return s.Namespace + "/" + s.Name }

// New is a selection from parts; ifname may be "".
func New(namespace, name, ifname string) (Selection, error) {
	s := Selection{Namespace: namespace, Name: name, Interface: ifname}
	if ifname != "" {
		if err := checkInterface(ifname); err != nil {
			return Selection{}, fmt.Errorf("interface: %w", err)
		}
	}
	return s, s.checkRef()
}

// Parse reads a value of either form with up to limit networks; namespace is that
// of the pod. The empty value and the empty list select nothing.
func Parse(value, namespace string, limit int) ([]Selection, error) {
	switch {
	case value == "":
		return nil, nil
	case len(value) > maxSize:
		return nil, fmt.Errorf("%d bytes are more than the %d an annotation may have", len(value), maxSize)
	case strings.ContainsAny(value, `[{"`):
		return parseJSON([]byte(value), namespace, limit)
	default:
		return parseShort(value, namespace, limit)
	}
}

func checkCount(n, limit int) error {
	if n > limit {
		return fmt.Errorf("%d networks are more than the %d a pod may select (maxNetworks in the configuration of multus-shim)", n, limit)
	}
	return nil
}

// ParseOne reads a value that must select exactly one network.
func ParseOne(value, namespace string) (Selection, error) {
	selections, err := Parse(value, namespace, MaxSelections)
	if err != nil {
		return Selection{}, err
	}
	if len(selections) != 1 {
		return Selection{}, fmt.Errorf("want exactly one network, got %d", len(selections))
	}
	return selections[0], nil
}

// parseShort reads "[namespace/]name[@interface],...".
func parseShort(value, namespace string, limit int) ([]Selection, error) {
	if err := checkCount(strings.Count(value, ",")+1, limit); err != nil {
		return nil, err
	}
	var selections []Selection
	for item := range strings.SplitSeq(value, ",") {
		s, err := ParseRef(strings.TrimSpace(item), namespace)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", len(selections)+1, err)
		}
		selections = append(selections, s)
	}
	return selections, nil
}

// ParseRef reads one "[namespace/]name[@interface]".
func ParseRef(item, namespace string) (Selection, error) {
	if item == "" {
		return Selection{}, errors.New("empty: want [namespace/]name[@interface]")
	}
	s, err := split(item, namespace)
	if err == nil {
		err = s.checkRef()
	}
	if err != nil {
		return Selection{}, fmt.Errorf("%q: %w", brief.Text(item), err)
	}
	return s, nil
}

// ParseFileRef is ParseRef for the administrator's choices, which may also be the
// name of a CNI network in a file: those are no names of Kubernetes objects.
func ParseFileRef(item, namespace string) (Selection, error) {
	s, err := split(item, namespace)
	if err == nil && s.checkRef() != nil {
		if invalid := utils.ValidateNetworkName(s.Name); invalid != nil { // a pointer, not an error that is nil
			err = invalid
		}
	}
	if err != nil {
		return Selection{}, fmt.Errorf("%q: want [namespace/]name[@interface]: %w", brief.Text(item), err)
	}
	return s, nil
}

func split(item, namespace string) (Selection, error) {
	s := Selection{Namespace: namespace, Name: item}
	if name, ifname, ok := strings.Cut(s.Name, "@"); ok {
		if strings.Contains(ifname, "@") {
			return Selection{}, errors.New("more than one '@': want [namespace/]name[@interface]")
		}
		if err := checkInterface(ifname); err != nil {
			return Selection{}, err
		}
		s.Name, s.Interface = name, ifname
	}
	if ns, name, ok := strings.Cut(s.Name, "/"); ok {
		s.Namespace, s.Name = ns, name
	}
	return s, nil
}

// IsObject reports whether the selection can be that of an object at all.
func (s Selection) IsObject() bool { return s.checkRef() == nil }

func (s Selection) checkRef() error {
	return errors.Join(CheckName("name", s.Name), CheckNamespace("namespace", s.Namespace))
}
