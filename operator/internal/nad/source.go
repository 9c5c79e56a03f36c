// SPDX-License-Identifier: Apache-2.0

package nad

import (
	"cmp"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// Source is what the three kinds of network have in common.
type Source struct {
	metav1.Object
	Resource string // without prefix

	namespace         string // as the spec says
	ipam, metaPlugins string
	logFile           bool // is set
	render            func(tenant bool) (string, error)
}

// SourceOf reads a SriovNetwork, SriovIBNetwork or OVSNetwork; false if obj is none.
func SourceOf(obj metav1.Object) (Source, bool) {
	switch o := obj.(type) {
	case *v1.SriovNetwork:
		s := &o.Spec
		return Source{o, s.ResourceName, s.NetworkNamespace, s.IPAM, s.MetaPluginsConfig, s.LogFile != "", func(tenant bool) (string, error) {
			spec := *s
			if tenant {
				spec.LogFile = ""
			}
			return Sriov(o.Name, &spec)
		}}, true
	case *v1.SriovIBNetwork:
		s := &o.Spec
		return Source{o, s.ResourceName, s.NetworkNamespace, s.IPAM, s.MetaPluginsConfig, false, func(bool) (string, error) { return IB(o.Name, s) }}, true
	case *v1.OVSNetwork:
		s := &o.Spec
		return Source{o, s.ResourceName, s.NetworkNamespace, s.IPAM, s.MetaPluginsConfig, false, func(bool) (string, error) { return OVS(o.Name, s) }}, true
	}
	return Source{}, false
}

// Target is the namespace that the NetworkAttachmentDefinition goes to.
func (s Source) Target() string { return cmp.Or(s.namespace, s.GetNamespace()) }

// Config renders the CNI configuration, or says why this network can have none; left says
// what of the network is left out of it. Only networks in the operator's namespace may be
// put elsewhere, and name devices and paths of the node.
func (s Source) Config(operatorNamespace string) (config, left string, err error) {
	tenant := s.GetNamespace() != operatorNamespace
	if s.Target() != s.GetNamespace() && tenant {
		return "", "", fmt.Errorf("networkNamespace %s: only networks in %s may be put elsewhere; leave it empty", s.namespace, operatorNamespace)
	}
	if config, err = s.render(tenant); err != nil || !tenant {
		return config, "", err
	}
	if err := confine(s.ipam, s.metaPlugins); err != nil {
		return "", "", err
	}
	if s.logFile {
		left = "logFile is left out: it is a path on the node, which only networks in " + operatorNamespace + " may name"
	}
	return config, left, nil
}

// Allowed reports whether a network may name its resource. The admins of a cluster list,
// in an annotation of a namespace, the resources that the networks in it may name; without
// the annotation, all.
func (s Source) Allowed(namespace map[string]string) error {
	list, ok := namespace[v1.AnnotationAllowedResources]
	if !ok {
		return nil
	}
	for name := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(name) == s.Resource {
			return nil
		}
	}
	return fmt.Errorf("resourceName %s: the namespace %s may name no other resources than %.256q (annotation %s)", s.Resource, s.GetNamespace(), list, v1.AnnotationAllowedResources)
}
