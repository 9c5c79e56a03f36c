// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
)

// The server of the webhooks offers what the operator's environment says.
func TestWebhookServerOffers(t *testing.T) {
	offers := func(set func(*tls.Config)) uint16 {
		t.Helper()
		server, err := WebhookServer(&Certificate{Operator: env.Operator{WebhookAddress: "127.0.0.1:9443", TLS: set}})
		require.NoError(t, err)
		var c tls.Config
		for _, opt := range server.(*webhook.DefaultServer).Options.TLSOpts {
			opt(&c)
		}
		require.NotNil(t, c.GetCertificate)
		return c.MinVersion
	}
	require.Equal(t, uint16(tls.VersionTLS13), offers(nil))
	require.Equal(t, uint16(tls.VersionTLS12), offers(func(c *tls.Config) { c.MinVersion = tls.VersionTLS12 }))
}
