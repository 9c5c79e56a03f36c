// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov"
)

// config reads the top level.
func (d *decoder) config(root node, defaultPrefix string) Config {
	var cfg Config
	var at []node
	d.object(root, "the configuration", fields{"resourceList": func(n node) {
		if !n.isArray {
			d.fail(n.offset, fmt.Errorf("resourceList is %s; want a list of pools", n.kind()))
			return
		}
		for _, p := range n.array {
			cfg.Pools = append(cfg.Pools, d.readPool(p, defaultPrefix))
		}
		at = n.array
	}})
	found := slices.ContainsFunc(root.object, func(m member) bool { return strings.EqualFold(m.key, "resourceList") })
	if root.isObj && !found && len(d.errs) == 0 { // null is what an operator renders for a node without pools
		d.fail(root.offset, errors.New(`resourceList is missing; an empty one, {"resourceList": []}, offers nothing`))
	}
	d.unique(cfg.Pools, at)
	return cfg
}

func (d *decoder) readPool(n node, defaultPrefix string) Pool {
	d.pool = poolName(n)
	defer func() { d.pool = "" }()
	p := Pool{DeviceType: NetDevice, Preference: Packed}
	var selectors *node
	d.object(n, "a pool", fields{
		"resourceName":   d.text("resourceName", &p.Resource.Name),
		"resourcePrefix": d.text("resourcePrefix", &p.Resource.Prefix),
		"deviceType": func(n node) {
			if !n.saysNothing() {
				word(d, "deviceType", &p.DeviceType, NetDevice, Accelerator, AuxNetDevice)(n)
			}
		},
		"excludeTopology": d.flag("excludeTopology", &p.ExcludeTopology),
		"includePFs":      d.flag("includePFs", &p.IncludePFs),
		"linkHealth":      d.flag("linkHealth", &p.LinkHealth),
		"preference":      word(d, "preference", &p.Preference, Packed, Spread),
		"additionalInfo":  d.additionalInfo(&p.AdditionalInfo),
		"selectors":       func(n node) { selectors = &n },
		// Left behind, as null, by programs that serialise their own structs.
		"SelectorObjs": d.onlyNull("SelectorObjs"),
		"SelectorObj":  d.onlyNull("SelectorObj"),
	})
	if p.Resource.Prefix == "" {
		p.Resource.Prefix = defaultPrefix
	}
	if n.isObj {
		d.checkResource(n, p.Resource)
		d.readSelectors(n, selectors, &p)
	}
	return p
}

// poolName finds the name for error texts before anything else is read.
func poolName(n node) string {
	for _, m := range n.object {
		if name, ok := m.value.value.(string); ok && strings.EqualFold(m.key, "resourceName") {
			return name
		}
	}
	return ""
}

func (d *decoder) onlyNull(key string) func(node) {
	return func(n node) { d.fail(n.offset, fmt.Errorf("%s is %s; use selectors", key, n.kind())) }
}

var (
	// resourceName is the part behind the slash: what kubelet accepts as the
	// name of a qualified name, without dots, which would make two names
	// share an environment variable.
	resourceName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?$`)
	// resourcePrefix is a DNS subdomain.
	resourcePrefix = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
)

// maxPrefix leaves room for "requests." in quotas, which Kubernetes checks too.
const maxPrefix = 253 - len("requests.")

// checkResource refuses what kubelet would refuse, where the value is, or the pool without it.
func (d *decoder) checkResource(n node, r Resource) {
	at := map[string]int{"resourcename": n.offset, "resourceprefix": n.offset}
	for _, m := range n.object {
		at[strings.ToLower(m.key)] = m.value.offset
	}
	name, prefix := at["resourcename"], at["resourceprefix"]
	switch {
	case r.Name == "":
		d.fail(name, errors.New("resourceName is missing"))
	case !resourceName.MatchString(r.Name):
		d.fail(name, fmt.Errorf("resourceName %.80q: want 1 to 63 letters, digits, - and _, a letter or digit first and last", r.Name))
	}
	switch {
	case r.Prefix == "":
		d.fail(prefix, errors.New("resourcePrefix is missing, and no default was given with -resource-prefix"))
	case len(r.Prefix) > maxPrefix || !resourcePrefix.MatchString(r.Prefix):
		d.fail(prefix, fmt.Errorf(`resourcePrefix %.80q: want a DNS name in lower case, at most %d characters, e.g. "example.com"`, r.Prefix, maxPrefix))
	case r.Prefix == "kubernetes.io" || strings.HasSuffix(r.Prefix, ".kubernetes.io"):
		d.fail(prefix, fmt.Errorf("resourcePrefix %s: kubelet keeps kubernetes.io for itself; use a domain of your own", r.Prefix))
	}
}

func (d *decoder) readSelectors(pool node, n *node, p *Pool) {
	const remedy = `want an object, or a list of them; {} takes every device of the type`
	switch {
	case n == nil:
		d.fail(pool.offset, errors.New("selectors is missing or null; "+remedy))
	case n.isObj:
		p.Selectors = []Selector{d.selector(*n, p.DeviceType)}
	case n.isArray && len(n.array) > 0:
		for _, item := range n.array {
			p.Selectors = append(p.Selectors, d.selector(item, p.DeviceType))
		}
	default:
		d.fail(n.offset, fmt.Errorf("selectors is %s; %s", n.kind(), remedy))
	}
}

// poolKeys are the keys that people also write into selectors.
var poolKeys = []string{
	"resourceName", "resourcePrefix", "deviceType", "excludeTopology", "includePFs", "linkHealth", "preference", "additionalInfo",
}

func selectorKeys() (keys []string) {
	for _, c := range Conditions {
		keys = append(keys, c.Key)
	}
	return keys
}

func (d *decoder) selector(n node, kind DeviceType) Selector {
	var s Selector
	known := fields{}
	for _, c := range Conditions {
		read := c.read(d, &s)
		known[c.Key] = func(n node) {
			switch {
			case n.saysNothing():
			case slices.Contains(c.kinds, kind):
				read(n)
			default:
				d.fail(n.offset, fmt.Errorf("%s cannot select in a pool of type %s", c.Key, kind))
			}
		}
	}
	d.object(n, "a selector", known)
	if n.isObj && kind == AuxNetDevice && len(s.AuxTypes) == 0 {
		d.fail(n.offset, errors.New(`auxTypes is missing; a pool of type auxNetDevice needs "auxTypes": ["sf"]`))
	}
	if s.RDMA && s.VDPA != "" {
		d.fail(n.offset, errors.New("isRdma and vdpaType exclude each other; use two selectors in a list"))
	}
	return s
}

// parseID reads a vendor or device number: up to four hexadecimal digits in
// any case, with or without 0x.
func parseID(s string) (libsriov.ID, error) {
	digits := strings.TrimPrefix(strings.ToLower(s), "0x")
	n, err := strconv.ParseUint(digits, 16, 16)
	if _, isAddress := libsriov.ParseAddress(s); isAddress == nil {
		return 0, fmt.Errorf("%.40q is a PCI address, which belongs into pciAddresses", s)
	}
	if err != nil || digits[0] == '+' {
		return 0, fmt.Errorf(`%.40q: want four hexadecimal digits, e.g. "8086"`, s)
	}
	return libsriov.ID(n), nil
}

func nonEmpty(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("an empty string matches nothing; remove it")
	case s != strings.TrimSpace(s):
		return "", fmt.Errorf("%.80q matches nothing; remove the blanks around it", s)
	}
	return s, nil
}

func parsePCIAddress(s string) (libsriov.Address, error) {
	a, err := libsriov.ParseAddress(s)
	if r, rangeErr := parseRootDevice(s); err != nil && rangeErr == nil && r.Only != nil {
		return a, fmt.Errorf("%.60q names VFs of a PF, which belongs into rootDevices", s)
	}
	return a, err
}

func decimal(s string) (string, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || s[0] == '+' {
		return "", fmt.Errorf(`%.40q: want a decimal number in a string, e.g. "101"`, s)
	}
	return strconv.FormatUint(n, 10), nil
}

func parseRootDevice(s string) (Range, error) {
	r, err := ParseRange(s)
	if err != nil {
		return Range{}, err
	}
	a, err := libsriov.ParseAddress(r.Parent)
	if err != nil {
		return Range{}, fmt.Errorf("%w; interface names belong into pfNames", err)
	}
	r.Parent = a.String()
	return r, nil
}

func parseLinkType(s string) (libsriov.LinkType, error) {
	switch strings.ToLower(s) {
	case "ether":
		return libsriov.LinkEther, nil
	case "infiniband":
		return libsriov.LinkInfiniBand, nil
	}
	return 0, fmt.Errorf("%.40q: want ether or infiniband", s)
}

func parsePKey(s string) (string, error) {
	digits, ok := strings.CutPrefix(strings.ToLower(s), "0x")
	n, err := strconv.ParseUint(digits, 16, 16)
	if !ok || err != nil || digits[0] == '+' {
		return "", fmt.Errorf(`%.40q: want "0x" and up to four hexadecimal digits, e.g. "0x8001"`, s)
	}
	return fmt.Sprintf("0x%04x", n), nil
}

func parseAuxType(s string) (string, error) {
	if s != "sf" {
		return "", fmt.Errorf(`%.40q: want "sf"`, s)
	}
	return s, nil
}

// auxName is how the auxiliary bus names devices: driver.kind.number.
var auxName = regexp.MustCompile(`^[a-zA-Z0-9_-]+\.[a-zA-Z0-9_-]+\.[0-9]+$`)

// infoKey reads a key of additionalInfo.
func infoKey(s string) (string, error) {
	if s == "*" || auxName.MatchString(s) {
		return s, nil
	}
	a, err := libsriov.ParseAddress(s)
	if err != nil {
		return "", fmt.Errorf(`additionalInfo has key %.40q; want "*", a PCI address, or the name of an auxiliary device`, s)
	}
	return a.String(), nil
}
