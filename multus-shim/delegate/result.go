// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
	"github.com/sriovkit/sriovkit/multus-shim/rawjson"
)

// result validates what a plugin printed and stamps it with the version of the
// network when the plugin left that out (https://github.com/containernetworking/cni/issues/895).
func (a Attachment) result(out []byte) (json.RawMessage, error) {
	object, err := rawjson.Parse(out)
	if err != nil {
		return nil, err
	}
	if err := noNulls(object); err != nil {
		return nil, err
	}
	var version string
	if err := object.Decode("cniVersion", &version); err != nil {
		return nil, err
	}
	if version == "" {
		version = a.version()
	}
	raw := object.With("cniVersion", rawjson.Marshal(version)).Bytes()
	if _, err := create.Create(version, raw); err != nil {
		return nil, fmt.Errorf("%s", brief.Cut(err.Error(), stderrTail))
	}
	return raw, nil
}

// noNulls refuses results whose lists have null elements: the library's types hold
// pointers there, which its conversions follow unseen. Results before 0.3.0 have
// lists in "ip4" and "ip6".
func noNulls(object rawjson.Object) error {
	for _, m := range object {
		switch key := strings.ToLower(m.Key); {
		case slices.Contains([]string{"ips", "interfaces", "routes"}, key):
			if err := noNullElement(m); err != nil {
				return err
			}
		case key == "ip4" || key == "ip6":
			inner, err := rawjson.ParseTrusted(m.Value) // its depth was checked with the result's
			if err != nil {
				continue // null, or the library's error
			}
			if err := noNulls(inner); err != nil {
				return fmt.Errorf("%s: %w", m.Key, err)
			}
		}
	}
	return nil
}

func noNullElement(m rawjson.Member) error {
	var elements []json.RawMessage
	if json.Unmarshal(m.Value, &elements) != nil {
		return nil // the library says what it wants
	}
	null := func(e json.RawMessage) bool { return bytes.Equal(e, []byte("null")) }
	if i := slices.IndexFunc(elements, null); i >= 0 {
		return fmt.Errorf("%s, element %d: null, want an object", m.Key, i+1)
	}
	return nil
}
