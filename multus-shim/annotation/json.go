// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
	"github.com/sriovkit/sriovkit/multus-shim/rawjson"
)

// known keys of an element. "interfaceRequest" is the older name of "interface".
var known = []string{
	"name", "namespace", "ips", "mac", "infiniband-guid", "interface", "interfaceRequest", "portMappings",
	"bandwidth", "cni-args", "default-route", "deviceID", "ipam-claim-reference",
}

func parseJSON(value []byte, namespace string, limit int) ([]Selection, error) {
	if err := rawjson.CheckDepth(value); err != nil {
		return nil, err
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(value, &elements); err != nil {
		return nil, fmt.Errorf("want a JSON list of network selections: %w", err)
	}
	if err := checkCount(len(elements), limit); err != nil {
		return nil, err
	}
	var (
		selections   []Selection
		defaultRoute int // element that holds it
	)
	for i, element := range elements {
		s, err := parseElement(element, namespace)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i+1, err)
		}
		if s.DefaultRoute != nil {
			if defaultRoute != 0 {
				return nil, fmt.Errorf("default-route: in elements %d and %d, at most one may have it", defaultRoute, i+1)
			}
			defaultRoute = i + 1
		}
		selections = append(selections, s)
	}
	return selections, nil
}

func parseElement(data json.RawMessage, namespace string) (Selection, error) {
	object, err := rawjson.Parse(data)
	if err == nil {
		object, err = object.Canonical(known...)
	}
	if err != nil {
		return Selection{}, err
	}
	p := parser{object: object}
	s := Selection{
		Name:         p.text("name"),
		Namespace:    p.text("namespace"),
		Interface:    p.text("interface"),
		IPs:          p.ips(),
		MAC:          p.hardware("mac", 6),
		GUID:         p.hardware("infiniband-guid", 8),
		PortMappings: p.portMappings(),
		Bandwidth:    p.bandwidth(),
		CNIArgs:      p.cniArgs(),
		DeviceID:     p.text("deviceID"),
		DefaultRoute: p.defaultRoute(),
	}
	if s.Interface == "" {
		s.Interface = p.text("interfaceRequest")
	}
	if s.Namespace == "" {
		s.Namespace = namespace
	}
	if s.Interface != "" {
		p.fail("interface", checkInterface(s.Interface))
	}
	if claim := p.text("ipam-claim-reference"); claim != "" && len(s.IPs) > 0 {
		p.fail("ipam-claim-reference", fmt.Errorf("%q excludes ips: the claim holds the addresses", brief.Text(claim)))
	}
	if !p.failed("name") && !p.failed("namespace") {
		p.errs = append(p.errs, s.checkRef())
	}
	const enough = 5
	for _, m := range object {
		if !slices.Contains(known, m.Key) && len(s.Ignored) < enough {
			s.Ignored = append(s.Ignored, brief.Text(m.Key))
		}
	}
	if err := brief.Join(p.errs...); err != nil {
		return Selection{}, err
	}
	return s, nil
}

// parser collects what is wrong with one element.
type parser struct {
	object rawjson.Object
	errs   []error
	bad    []string
}

func (p *parser) fail(key string, err error) {
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("%s: %w", key, err))
		p.bad = append(p.bad, key)
	}
}

func (p *parser) failed(key string) bool { return slices.Contains(p.bad, key) }

// decode reads key into target and says whether there was a value. A null is
// no value: generators write it for fields that are not set.
func (p *parser) decode(key string, target any) bool {
	value, ok := p.object.Get(key)
	if !ok || string(value) == "null" {
		return false
	}
	if err := json.Unmarshal(value, target); err != nil {
		p.fail(key, err)
		return false
	}
	return true
}

func (p *parser) text(key string) string {
	var value string
	p.decode(key, &value)
	return value
}

func (p *parser) ips() []string {
	var ips []string
	if !p.decode("ips", &ips) || len(ips) == 0 {
		return nil
	}
	for _, ip := range ips {
		p.fail("ips", checkIP(ip))
	}
	return ips
}

func (p *parser) hardware(key string, size int) string {
	address := p.text(key)
	if address != "" {
		p.fail(key, checkHardware(address, size))
	}
	return address
}

func (p *parser) portMappings() []PortMapping {
	var mappings []PortMapping
	if !p.decode("portMappings", &mappings) || len(mappings) == 0 {
		return nil
	}
	for i := range mappings {
		if err := mappings[i].normalise(); err != nil {
			p.fail("portMappings", fmt.Errorf("element %d: %w", i+1, err))
		}
	}
	return mappings
}

func (p *parser) bandwidth() *Bandwidth {
	var fields struct{ IngressRate, IngressBurst, EgressRate, EgressBurst *int64 }
	if !p.decode("bandwidth", &fields) {
		return nil
	}
	var b Bandwidth
	p.fail("bandwidth", setRate(&b.IngressRate, &b.IngressBurst, "ingress", fields.IngressRate, fields.IngressBurst))
	p.fail("bandwidth", setRate(&b.EgressRate, &b.EgressBurst, "egress", fields.EgressRate, fields.EgressBurst))
	if b == (Bandwidth{}) {
		return nil
	}
	return &b
}

func (p *parser) cniArgs() json.RawMessage {
	var value json.RawMessage
	if !p.decode("cni-args", &value) {
		return nil
	}
	args, err := rawjson.Parse(value)
	if err != nil {
		p.fail("cni-args", err)
		return nil
	}
	return args.Bytes()
}

func (p *parser) defaultRoute() *DefaultRoute {
	var gateways []string
	if !p.decode("default-route", &gateways) {
		return nil
	}
	route := &DefaultRoute{}
	families := map[bool]string{}
	for _, gateway := range gateways {
		addr, err := netip.ParseAddr(gateway)
		if err == nil && addr.Zone() != "" {
			err = errors.New("zone")
		}
		if err != nil {
			p.fail("default-route", fmt.Errorf("%q is no gateway address: want an IP address without a zone", brief.Text(gateway)))
			continue
		}
		addr = addr.Unmap()
		if other, ok := families[addr.Is4()]; ok {
			p.fail("default-route", fmt.Errorf("%q and %q are of one family, want at most one gateway each", other, gateway))
		}
		families[addr.Is4()] = gateway
		route.Gateways = append(route.Gateways, addr)
	}
	return route
}
