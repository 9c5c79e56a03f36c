// SPDX-License-Identifier: Apache-2.0

// Package v1 is the API of the operator: the seven kinds of the group
// sriovnetwork.openshift.io/v1, field by field what clusters already store.
//
// Field names, spellings ("totalvfs", "Vfs", "Vlan") and enumerations are part of
// the contract with existing manifests; everything sriovkit adds is optional.
// What a schema can refuse is refused by patterns and CEL rules on these types,
// so that no admission webhook has to be alive for a policy to be safe.
//
// The package imports nothing but apimachinery.
//
// +kubebuilder:object:generate=true
// +groupName=sriovnetwork.openshift.io
package v1
