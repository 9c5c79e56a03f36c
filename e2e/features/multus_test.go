// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestClusterMultus gives a pod two more networks, one of which has its default
// route, and a name of its own for an interface; the status says what it got. A
// network that does not exist is named in an event. The objects go before the pod,
// which leaves nothing behind all the same.
func TestClusterMultus(t *testing.T) {
	e := newEnv(t)
	e.apply(bridgeNAD("neta", "10.10.0.0/24") + bridgeNAD("netb", "10.11.0.0/24"))
	e.apply(pod{name: "lost", networks: "no-such-network"}.manifest())
	e.run(pod{name: "three", networks: `[{"name":"neta","default-route":["10.10.0.1"]},{"name":"netb","interface":"foo0"}]`})

	addresses := e.exec("three", "ip", "-o", "-4", "addr")
	for ifname, address := range map[string]string{"eth0": "10.244.0.", "net1": "10.10.0.", "foo0": "10.11.0."} {
		assert.Regexp(t, ifname+` +inet `+address, addresses)
	}
	assert.Contains(t, e.exec("three", "ip", "route"), "default via 10.10.0.1 dev net1")
	var status []struct {
		Name, Interface string
		IPs             []string
		Default         bool
	}
	require.NoError(t, json.Unmarshal([]byte(e.status("three")), &status))
	var got []string
	for _, s := range status {
		got = append(got, fmt.Sprint(s.Name, " ", s.Interface, " ", s.Default))
	}
	require.Equal(t, []string{"bridge eth0 true", "default/neta net1 false", "default/netb foo0 false"}, got)
	assert.Equal(t, status[0].IPs[0], e.get("pod", "three", "-o", "jsonpath={.status.podIP}"),
		"the annotation's patch leaves the rest of the status alone")

	e.until("the reason why a pod does not start is on the pod", func() bool {
		out := e.get("events", "--field-selector=involvedObject.name=lost,reason=NoNetworkFound", "-o", "jsonpath={.items[*].message}")
		return strings.Contains(out, "default/no-such-network")
	})

	e.kubectl("delete", "network-attachment-definitions", "neta", "netb")
	e.kubectl("delete", "pod", "three", "lost", "--timeout="+patience.String())
	assert.Empty(t, e.node("ls /var/lib/cni/networks/neta /var/lib/cni/networks/netb | grep ^10 || true"), "addresses are given back")
	e.until("no record of the pods is left", func() bool {
		return e.node("grep -l net1 /var/lib/cni/multus/records/* 2>/dev/null || true") == ""
	})
}

func bridgeNAD(name, subnet string) string {
	return fmt.Sprintf(`
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: %s}
spec:
  config: '{"cniVersion":"1.0.0","type":"bridge","bridge":"br-%[1]s","isGateway":true,"ipam":{"type":"host-local","subnet":"%s"}}'
`, name, subnet)
}
