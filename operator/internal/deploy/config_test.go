// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// Each field of the operator's configuration, if nothing else is set, changes what is deployed
// and where, or is reported as ignored. A field that does neither would be accepted and
// silently ignored.
func TestEveryFieldOfTheConfigurationCounts(t *testing.T) {
	changed := v1.SriovOperatorConfigSpec{
		ConfigDaemonNodeSelector: map[string]string{"sriov": "yes"}, EnableInjector: true, EnableOperatorWebhook: true, LogLevel: 2,
		DisableDrain: true, EnableOvsOffload: true, ConfigurationMode: "systemd", UseCDI: true, DisablePlugins: []string{"mellanox"},
		FeatureGates: map[string]bool{"unheardOf": true}, ConfigDaemonEnvVars: map[string]string{"A": "b"},
	}
	elsewhere := map[string]bool{"DisableDrain": true} // package drain
	effect := func(s *v1.SriovOperatorConfigSpec) []any {
		wanted, unwanted := Webhooks(s, WebhookClient{Namespace: "ns"}, metav1.OwnerReference{})
		return []any{Daemon(Options{}, Images{}, s), DevicePlugin(Options{}, Images{}, s), wanted, unwanted, NodeSelector(s), Ignored(s)}
	}
	before := effect(&v1.SriovOperatorConfigSpec{})
	for f, value := range reflect.ValueOf(changed).Fields() {
		require.False(t, value.IsZero(), "say above what another value of %s is", f.Name)
		var one v1.SriovOperatorConfigSpec
		reflect.ValueOf(&one).Elem().FieldByIndex(f.Index).Set(value)
		require.Equal(t, elsewhere[f.Name], cmp.Equal(before, effect(&one)), f.Name)
	}
}
