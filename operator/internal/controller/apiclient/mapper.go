// SPDX-License-Identifier: Apache-2.0

package apiclient

import (
	"net/http"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// mapper remembers the resources of kinds. A cache that is limited to a namespace asks
// for them at every read, and each answer otherwise goes through all groups of the API:
// with thousands of nodes, a sixth of the operator's CPU time.
type mapper struct {
	meta.RESTMapper
	known sync.Map // schema.GroupVersionKind, *meta.RESTMapping
}

// NewMapper is for a manager's options.
func NewMapper(cfg *rest.Config, client *http.Client) (meta.RESTMapper, error) {
	m, err := apiutil.NewDynamicRESTMapper(cfg, client)
	return &mapper{RESTMapper: m}, err
}

// RESTMapping asks once for each kind. The scope and resource of a version that is
// served do not change.
func (m *mapper) RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	if len(versions) != 1 {
		return m.RESTMapper.RESTMapping(kind, versions...)
	}
	gvk := kind.WithVersion(versions[0])
	if known, ok := m.known.Load(gvk); ok {
		return known.(*meta.RESTMapping), nil
	}
	found, err := m.RESTMapper.RESTMapping(kind, versions...)
	if err == nil {
		m.known.Store(gvk, found)
	}
	return found, err
}
