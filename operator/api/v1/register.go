// SPDX-License-Identifier: Apache-2.0

package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion of every kind in this package.
var GroupVersion = schema.GroupVersion{Group: "sriovnetwork.openshift.io", Version: "v1"}

// AddToScheme registers the seven kinds and their lists.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&SriovNetworkNodePolicy{}, &SriovNetworkNodePolicyList{},
		&SriovNetworkNodeState{}, &SriovNetworkNodeStateList{},
		&SriovNetwork{}, &SriovNetworkList{},
		&SriovIBNetwork{}, &SriovIBNetworkList{},
		&OVSNetwork{}, &OVSNetworkList{},
		&SriovOperatorConfig{}, &SriovOperatorConfigList{},
		&SriovNetworkPoolConfig{}, &SriovNetworkPoolConfigList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
