// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// defaults fills in a policy what the schema cannot: a priority, which the planner
// assumes too, and RDMA where the link type says it. It edits the object as it came:
// fields that this version does not know stay.
func defaults(_ context.Context, req admission.Request) admission.Response {
	if req.Operation == admissionv1.Update && sameSpec(req.Object, req.OldObject) {
		return admission.Allowed("") // the validator is to see that nothing changed
	}
	var obj unstructured.Unstructured
	if err := json.Unmarshal(req.Object.Raw, &obj.Object); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	spec, ok, _ := unstructured.NestedMap(obj.Object, "spec")
	if !ok || req.Name == v1.DefaultConfigName {
		return admission.Allowed("")
	}
	if spec["priority"] == nil {
		spec["priority"] = int64(v1.DefaultPriority)
	}
	link, _ := spec["linkType"].(string)
	if spec["isRdma"] == nil {
		spec["isRdma"] = strings.EqualFold(link, v1.LinkTypeIB) && spec["deviceType"] != v1.DeviceTypeVFIO
	}
	obj.Object["spec"] = spec
	return patched(req, obj.Object)
}
