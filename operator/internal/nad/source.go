package nad

import (
	"cmp"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// Source is what the three kinds of network have in common.
type Source struct {
	metav1.Object
	Resource string // without prefix

	namespace string // as the spec says
	render    func() (string, error)
}

// SourceOf reads a SriovNetwork, SriovIBNetwork or OVSNetwork; false if obj is none.
func SourceOf(obj metav1.Object) (Source, bool) {
	switch o := obj.(type) {
	case *v1.SriovNetwork:
		return Source{o, o.Spec.ResourceName, o.Spec.NetworkNamespace, func() (string, error) { return Sriov(o.Name, &o.Spec) }}, true
	case *v1.SriovIBNetwork:
		return Source{o, o.Spec.ResourceName, o.Spec.NetworkNamespace, func() (string, error) { return IB(o.Name, &o.Spec) }}, true
	case *v1.OVSNetwork:
		return Source{o, o.Spec.ResourceName, o.Spec.NetworkNamespace, func() (string, error) { return OVS(o.Name, &o.Spec) }}, true
	}
	return Source{}, false
}

// Target is the namespace that the NetworkAttachmentDefinition goes to.
func (s Source) Target() string { return cmp.Or(s.namespace, s.GetNamespace()) }

// Config renders the CNI configuration, or says why this network can have none. Only
// networks in the operator's namespace may be put elsewhere.
func (s Source) Config(operatorNamespace string) (string, error) {
	if s.Target() != s.GetNamespace() && s.GetNamespace() != operatorNamespace {
		return "", fmt.Errorf("networkNamespace %s: only networks in %s may be put elsewhere; leave it empty", s.namespace, operatorNamespace)
	}
	return s.render()
}
