// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// priority returns a policy's priority, 0 (highest) to 99; absent means 99.
func priority(p *v1.SriovNetworkNodePolicy) int {
	if p.Spec.Priority == nil {
		return v1.DefaultPriority
	}
	return *p.Spec.Priority
}

// byPrecedence orders policies so that a later one overrides an earlier one.
func byPrecedence(a, b *v1.SriovNetworkNodePolicy) int {
	return cmp.Or(cmp.Compare(priority(b), priority(a)), cmp.Compare(a.Name, b.Name))
}

// SelectsNode reports whether the policy applies to a node with these labels. The policy
// named "default" never does: earlier upstream versions create it as an internal object.
func SelectsNode(p *v1.SriovNetworkNodePolicy, labels map[string]string) bool {
	if p.Name == "default" {
		return false
	}
	for k, v := range p.Spec.NodeSelector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// Validate returns all faults of a policy, joined. It repeats what the CRD's schema checks,
// because a policy may be older than the schema, and adds what no schema can express.
func Validate(s *v1.SriovNetworkNodePolicySpec) error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if s.ResourceName == "" {
		fault("resourceName is empty")
	}
	if s.Priority != nil && (*s.Priority < 0 || *s.Priority > v1.DefaultPriority) {
		fault("priority %d: want 0 to %d", *s.Priority, v1.DefaultPriority)
	}
	switch {
	case s.NumVfs < 0:
		fault("numVfs %d: want 1 or more", s.NumVfs)
	case s.NumVfs == 0:
		fault("numVfs is 0: want 1 or more; to take VFs away, delete the policy")
	}
	for _, n := range s.NicSelector.PfNames {
		p, err := parsePFName(n)
		if err != nil {
			errs = append(errs, err)
		} else if !p.whole && p.vfs.Last >= s.NumVfs {
			fault("nicSelector.pfNames %q: the last VF of the range has to be below numVfs, %d", n, s.NumVfs)
		}
	}
	if s.DeviceType != "" && s.DeviceType != v1.DeviceTypeNetDevice && s.DeviceType != v1.DeviceTypeVFIO {
		fault("deviceType %q: want netdevice or vfio-pci", s.DeviceType)
	}
	if s.DeviceType == v1.DeviceTypeVFIO && s.IsRdma {
		fault("isRdma with deviceType vfio-pci: a VF on vfio-pci has no RDMA device; drop one of the two")
	}
	if s.Mtu < 0 {
		fault("mtu %d: want 1 or more", s.Mtu)
	}
	if s.EswitchMode == v1.EswitchSwitchdev && strings.EqualFold(s.LinkType, v1.LinkTypeIB) {
		fault("eSwitchMode switchdev with linkType ib: switchdev is Ethernet only")
	}
	switch {
	case s.VdpaType == "":
	case s.VdpaType != v1.VdpaTypeVirtio && s.VdpaType != v1.VdpaTypeVhost:
		fault("vdpaType %q: want virtio or vhost", s.VdpaType)
	case s.DeviceType == v1.DeviceTypeVFIO:
		fault("vdpaType %q with deviceType vfio-pci: a VF on vfio-pci has no vDPA device; drop one of the two", s.VdpaType)
	case s.IsRdma:
		fault("vdpaType %q with isRdma: the device plugin offers a VF as one of the two", s.VdpaType)
	}
	if s.Bridge.OVS != nil {
		fault("bridge: OVS bridges are not managed by this operator")
	}
	return errors.Join(errs...)
}

// RivalsOf returns a function that returns, for a node, those of the policies that can influence
// the verdict on policy, which is not among them: policies that select a PF that it selects,
// that offer the same resource, or that select a PF of a policy that does. The policies are
// parsed once for all nodes.
func RivalsOf(policy *v1.SriovNetworkNodePolicy, policies []*v1.SriovNetworkNodePolicy) func(*v1.SriovNetworkNodeState) []*v1.SriovNetworkNodePolicy {
	this := parsePolicy(policy)
	var all, alike []*parsedPolicy
	for _, p := range policies {
		o := parsePolicy(p)
		all = append(all, o)
		if o.Spec.ResourceName == policy.Spec.ResourceName {
			alike = append(alike, o)
		}
	}
	return func(state *v1.SriovNetworkNodeState) []*v1.SriovNetworkNodePolicy {
		pfs := slices.DeleteFunc(nodePFs(state), func(pf *nodePF) bool {
			return !this.wants(pf) && !slices.ContainsFunc(alike, func(o *parsedPolicy) bool { return o.wants(pf) })
		})
		var out []*v1.SriovNetworkNodePolicy
		for _, o := range all {
			if o.Name == policy.Name {
				continue
			}
			if slices.Contains(alike, o) || slices.ContainsFunc(pfs, o.wants) {
				out = append(out, o.SriovNetworkNodePolicy)
			}
		}
		return out
	}
}
