// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// multusGoes uninstalls multus-shim as its README says: nothing of it is left but the kind
// of the networks, and with it every network of all tenants.
func multusGoes(t *testing.T, kubectl func(input string, args ...string) string, checkout string) {
	t.Helper()
	kubectl(`
{apiVersion: v1, kind: Namespace, metadata: {name: tenant}}
---
{apiVersion: k8s.cni.cncf.io/v1, kind: NetworkAttachmentDefinition, metadata: {name: kept, namespace: tenant}, spec: {config: '{"type":"macvlan"}'}}
`, "apply", "-f", "-")
	uid := kubectl("", "get", "net-attach-def", "kept", "-n", "tenant", "-o", "jsonpath={.metadata.uid}")
	kubectl("", "delete", "-k", filepath.Join(checkout, "multus-shim/deploy/workload"), "--timeout=1m")
	const kinds = "crds,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
	assert.Equal(t, "customresourcedefinition.apiextensions.k8s.io/network-attachment-definitions.k8s.cni.cncf.io", ofMultus(kubectl("", "get", kinds, "-o", "name")))
	assert.Empty(t, ofMultus(kubectl("", "get", "daemonsets,serviceaccounts,roles,rolebindings,configmaps", "-A", "-o", "name")))
	assert.Equal(t, uid+` {"type":"macvlan"}`, kubectl("", "get", "net-attach-def", "kept", "-n", "tenant", "-o", "jsonpath={.metadata.uid} {.spec.config}"))
	kubectl("", "apply", "-k", filepath.Join(checkout, "multus-shim/deploy")) // and it comes back
	assert.Equal(t, uid, kubectl("", "get", "net-attach-def", "kept", "-n", "tenant", "-o", "jsonpath={.metadata.uid}"))
}

// ofMultus are the objects of a list of names that are of multus-shim or its kind.
func ofMultus(names string) string {
	var found []string
	for _, name := range strings.Fields(names) {
		if strings.Contains(name, "multus") || strings.Contains(name, "k8s.cni.cncf.io") {
			found = append(found, name)
		}
	}
	return strings.Join(found, "\n")
}
