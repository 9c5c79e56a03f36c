// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

func TestDefaultsOfPolicies(t *testing.T) {
	for name, tc := range map[string]struct{ spec, want string }{
		"nothing said":    {`{"numVfs":1}`, `{"numVfs":1,"priority":99,"isRdma":false}`},
		"all said":        {`{"priority":0,"isRdma":false,"linkType":"ib"}`, `{"priority":0,"isRdma":false,"linkType":"ib"}`},
		"InfiniBand":      {`{"priority":1,"linkType":"IB"}`, `{"priority":1,"linkType":"IB","isRdma":true}`},
		"InfiniBand vfio": {`{"priority":1,"linkType":"ib","deviceType":"vfio-pci"}`, `{"priority":1,"linkType":"ib","deviceType":"vfio-pci","isRdma":false}`},
	} {
		t.Run(name, func(t *testing.T) {
			raw := []byte(`{"metadata":{"name":"p"},"spec":` + tc.spec + `}`)
			resp := defaults(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Name: "p", Object: runtime.RawExtension{Raw: raw}}})
			require.True(t, resp.Allowed)
			var obj struct{ Spec map[string]any }
			require.NoError(t, json.Unmarshal(raw, &obj))
			for _, p := range resp.Patches {
				require.Equal(t, "add", p.Operation)
				obj.Spec[p.Path[len("/spec/"):]] = p.Value
			}
			got, err := json.Marshal(obj.Spec)
			require.NoError(t, err)
			require.JSONEq(t, tc.want, string(got))
		})
	}
}
