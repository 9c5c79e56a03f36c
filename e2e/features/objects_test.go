// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/cluster"
)

// pod is a pod with one container, on node1 unless another is given. The resource
// has a prefix, empty is none; so is the capability beyond those of every container.
type pod struct{ name, networks, resource, node, capability string }

func (p pod) manifest() string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\n%s\nspec:\n%s", p.name, p.annotations("  "), p.spec("  ")+
		"\n  nodeSelector: {kubernetes.io/hostname: "+cmp.Or(p.node, "node1")+"}\n")
}

func (p pod) annotations(indent string) string {
	return fmt.Sprintf("%sannotations: {k8s.v1.cni.cncf.io/networks: '%s'}", indent, p.networks)
}

func (p pod) spec(indent string) string {
	limits := ""
	if p.resource != "" {
		limits = p.resource + `: "1"`
	}
	return indent + strings.ReplaceAll(fmt.Sprintf(`terminationGracePeriodSeconds: 1
containers:
- name: app
  image: %s
  securityContext: {capabilities: {add: [%s]}}
  resources: {limits: {%s}}`, cluster.BusyboxImage, p.capability, limits), "\n", "\n"+indent)
}

// deployment is one pod that is made again wherever it can be, node1 if possible.
func (p pod) deployment() string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  strategy: {type: Recreate}
  template:
    metadata:
      labels: {app: %[1]s}
%[2]s
    spec:
      affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [
        {weight: 100, preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node1]}]}}]}}
%[3]s
`, p.name, p.annotations("      "), p.spec("      "))
}

// policy makes a policy whose resource has its name.
func policy(name, node, device string, numVFs int, deviceType string) string {
	return fmt.Sprintf(`
---
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkNodePolicy
metadata: {name: %s-%s, namespace: sriov-network-operator}
spec:
  resourceName: %[1]s
  nodeSelector: {kubernetes.io/hostname: %[2]s}
  nicSelector: {rootDevices: ["%s"]}
  numVfs: %d
  deviceType: %s
`, name, node, device, numVFs, deviceType)
}

var policies = policy("nics", "node1", "0000:01:00.0", 4, "netdevice") +
	policy("nics", "node2", "0000:01:00.0", 2, "netdevice") +
	policy("dpdk", "node1", "0000:02:00.0", 2, "vfio-pci")

// network makes a SriovNetwork. All have one subnet, so that nothing but the VLAN
// keeps pods apart; the addresses are 10.56.third.10 to .249, by turns.
func network(name, resource string, vlan, third int) string {
	return fmt.Sprintf(`
---
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetwork
metadata: {name: %s, namespace: sriov-network-operator}
spec:
  networkNamespace: default
  resourceName: %s
  vlan: %d
  capabilities: '{"mac": true, "ips": true}'
  ipam: '{"type": "host-local", "ranges": [[{"subnet": "10.56.0.0/16", "rangeStart": "10.56.%[4]d.10", "rangeEnd": "10.56.%[4]d.249"}]]}'
`, name, resource, vlan, third)
}

var networks = network("red", "nics", 100, 1) + network("blue", "nics", 200, 2) + `
---
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetwork
metadata: {name: dpdk, namespace: sriov-network-operator}
spec: {networkNamespace: default, resourceName: dpdk}
`
