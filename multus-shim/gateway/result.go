// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"net/netip"
	"slices"

	"github.com/sriovkit/sriovkit/multus-shim/rawjson"
)

// A CNI result keeps its routes in "routes" since 0.3.0 ({"dst","gw",...}) and in "ip4"/"ip6"
// before. Editing the JSON keeps all other members.

// OfResult lists the default routes of a result, at most one per family.
func OfResult(result json.RawMessage) []Route {
	var r struct {
		Routes []struct{ Dst, GW string }
	}
	if json.Unmarshal(result, &r) != nil {
		return nil
	}
	var routes []Route
	for _, route := range r.Routes {
		dst, err := netip.ParsePrefix(route.Dst)
		if err != nil || dst.Bits() != 0 {
			continue
		}
		gw, _ := netip.ParseAddr(route.GW)
		f := family(dst.Addr())
		if !slices.ContainsFunc(routes, func(r Route) bool { return r.Family == f }) {
			routes = append(routes, Route{f, gw})
		}
	}
	return routes
}

// WithRoutes returns the result of the attachment that has these default routes
// now, in place of its own of the same families.
func WithRoutes(result json.RawMessage, routes []Route) (json.RawMessage, error) {
	add := make([]json.RawMessage, 0, len(routes))
	for _, r := range routes {
		route := rawjson.Object{{Key: "dst", Value: rawjson.Marshal(anywhere(r.Family).String())}}
		if r.Gateway.IsValid() {
			route = route.With("gw", rawjson.Marshal(r.Gateway.String()))
		}
		add = append(add, route.Bytes())
	}
	return edit(result, routes, add)
}

// WithoutRoutes returns the result of any other attachment: its default routes
// of these families are gone.
func WithoutRoutes(result json.RawMessage, routes []Route) (json.RawMessage, error) {
	return edit(result, routes, nil)
}

func edit(result json.RawMessage, routes []Route, add []json.RawMessage) (json.RawMessage, error) {
	object, err := rawjson.Parse(result)
	if err != nil {
		return nil, err
	}
	replaced := func(dst string) bool {
		prefix, err := netip.ParsePrefix(dst)
		return err == nil && prefix.Bits() == 0 &&
			slices.ContainsFunc(routes, func(r Route) bool { return r.Family == family(prefix.Addr()) })
	}
	for _, old := range []string{"ip4", "ip6"} {
		if _, ok := object.Get(old); ok {
			add = nil // the old form has no place for them
		}
		if object, err = editOld(object, old, replaced); err != nil {
			return nil, err
		}
	}
	var have []json.RawMessage
	if err := object.Decode("routes", &have); err != nil {
		return nil, err
	}
	kept, err := keep(have, replaced)
	if err != nil {
		return nil, err
	}
	kept = append(kept, add...)
	if len(kept) == 0 && len(have) == 0 {
		return object.Bytes(), nil
	}
	return object.With("routes", rawjson.Marshal(kept)).Bytes(), nil
}

// editOld edits the per-family form of results before 0.3.0.
func editOld(object rawjson.Object, key string, replaced func(string) bool) (rawjson.Object, error) {
	value, ok := object.Get(key)
	if !ok || string(value) == "null" {
		return object, nil
	}
	config, err := rawjson.Parse(value)
	if err != nil {
		return nil, err
	}
	var have []json.RawMessage
	if err := config.Decode("routes", &have); err != nil || have == nil {
		return object, err
	}
	kept, err := keep(have, replaced)
	if err != nil {
		return nil, err
	}
	return object.With(key, config.With("routes", rawjson.Marshal(kept)).Bytes()), nil
}

func keep(routes []json.RawMessage, replaced func(dst string) bool) ([]json.RawMessage, error) {
	kept := []json.RawMessage{}
	for _, raw := range routes {
		var route struct{ Dst string }
		if err := json.Unmarshal(raw, &route); err != nil {
			return nil, err
		}
		if !replaced(route.Dst) {
			kept = append(kept, raw)
		}
	}
	return kept, nil
}
