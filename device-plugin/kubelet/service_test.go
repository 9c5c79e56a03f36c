// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"testing"

	"github.com/stretchr/testify/require"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// TestNoEndpointIsNamed: where the kubelet's directory has another path on the host than for
// the plugin, kubelet would not find a socket that is named.
func TestNoEndpointIsNamed(t *testing.T) {
	s := &service{Endpoint: &Endpoint{}, path: "/var/lib/kubelet/plugins_registry/a.sock"}
	info, err := s.GetInfo(t.Context(), &registerapi.InfoRequest{})
	require.NoError(t, err)
	require.Equal(t, registerapi.DevicePlugin, info.Type)
	require.Empty(t, info.Endpoint)
}

// TestEndedListStaysEmpty: what is published while the plugin ends is not what kubelet hears last.
func TestEndedListStaysEmpty(t *testing.T) {
	l := newList()
	l.publish(Pool{Devices: []Device{{ID: "a", Healthy: true}}})
	l.end()
	l.publish(Pool{Devices: []Device{{ID: "a"}}})
	p, known, ended, _ := l.news()
	require.Empty(t, p.Devices)
	require.True(t, known)
	require.True(t, ended)
}
