// SPDX-License-Identifier: Apache-2.0

package nad

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// takesDevices are the types of plugins that attach a device, or an interface or socket of
// the node, of their own choice, or run other plugins. After the one that the operator puts
// first none has a place in the chain of a tenant.
//
// It names what is refused, for what tenants use cannot be known here: published networks
// chain tuning, vrf, rdma and sbr, and sites have plugins of their own. Who knows all that a
// namespace needs lists it in AnnotationAllowedPlugins; this list holds beside that one.
var takesDevices = []string{
	"sriov", "ib-sriov", "ovs", "accelerated-bridge", "host-device", "macvlan", "ipvlan", "vlan", "bridge", "ptp", "macvtap",
	"bond", "ovs-mirror-producer", "ovs-mirror-consumer", "ipoib", "tap", "userspace", "flannel", "calico", "cilium-cni", "multus", "multus-cni", "multus-shim",
}

// ofTheNode are the keys by which CNI and IPAM plugins are told a device, an interface or a
// path of the node. Plugins decode keys whatever their case.
var ofTheNode = []string{
	"deviceID", "device", "hwaddr", "kernelpath", "pciBusID", "pciAddress", "runtimeConfig", "master", // which device
	"dataDir", "resolvConf", "logFile", "log_file", "log_file_path", "daemonSocketPath", "daemonSocket", "kubeconfig", // which file
	"configuration_path", "confDir", "subnetFile", "etcd_key_file", "etcd_cert_file", "etcd_ca_cert_file",
}

// confine says what in the texts of a network names something of the node. Whoever may
// write networks in a namespace gets, with them, what the operator and root on the nodes
// may do: which device a pod has is settled by its resource, and which files are written
// by whoever runs the node.
func confine(ipam, metaPlugins string) error {
	var assigns any // addresses, by a plugin that is run just as the others are
	var list []any
	_ = json.Unmarshal([]byte(ipam), &assigns) // not valid: said already, as is what is too big
	_ = json.Unmarshal([]byte("["+metaPlugins+"]"), &list)
	errs := []error{unambiguous("ipam", ipam), unambiguous("metaPlugins", "["+metaPlugins+"]"), clean("ipam", assigns)}
	for i, p := range list {
		if err := clean(fmt.Sprintf("metaPlugins: entry %d", i+1), p); err != nil {
			errs = append(errs, err)
			break // there may be thousands
		}
	}
	return errors.Join(errs...)
}

// unambiguous refuses what JSON decoders read in different ways: of a key that is there twice
// some take the last value, and some, Go's into structures, what both have in them. What was
// judged would not be what a plugin reads.
func unambiguous(where, text string) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	decoder := jsontext.NewDecoder(strings.NewReader(text), jsontext.AllowInvalidUTF8(true))
	for {
		switch _, err := decoder.ReadToken(); {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, jsontext.ErrDuplicateName):
			return fmt.Errorf("%s: the key %.64q is there twice: leave one", where, decoder.StackPointer().LastToken())
		case err != nil:
			return fmt.Errorf("%s: %w", where, err)
		}
	}
}

// clean walks through what was configured: a plugin may run others that it is told of, at
// whatever depth.
func clean(where string, value any) error {
	var inside []any
	switch v := value.(type) {
	case []any:
		inside = v
	case map[string]any:
		for key, e := range v {
			if slices.ContainsFunc(ofTheNode, func(k string) bool { return strings.EqualFold(k, key) }) {
				return fmt.Errorf("%s: %q names something of the node: only networks in the operator's namespace may set it", where, key)
			}
			inside = append(inside, e)
		}
		if err := takes(where, v); err != nil {
			return err
		}
	}
	for _, e := range inside {
		if err := clean(where, e); err != nil {
			return err
		}
	}
	return nil
}

// takes says whether the configuration of a plugin is of one that takes devices.
func takes(where string, conf map[string]any) error {
	for key, value := range conf {
		kind, _ := value.(string)
		if strings.EqualFold(key, "type") && slices.Contains(takesDevices, kind) {
			return fmt.Errorf("%s: type %q takes a device of its own: only networks in the operator's namespace may name it", where, kind)
		}
	}
	return nil
}

// PluginsAllowed reports whether a network may name the plugins that it names, in its ipam
// and metaPlugins and at any depth of them: those that the admins of a cluster list in an
// annotation of its namespace; without the annotation, any.
func (s Source) PluginsAllowed(namespace map[string]string) error {
	list, ok := namespace[v1.AnnotationAllowedPlugins]
	if !ok {
		return nil
	}
	var texts [2]any // not valid: said already
	_ = json.Unmarshal([]byte(s.ipam), &texts[0])
	_ = json.Unmarshal([]byte("["+s.metaPlugins+"]"), &texts[1])
	named := types(texts[:])
	for word := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ' ' }) { // a hundred thousand fit into it
		if _, ok := named[word]; ok {
			named[word] = true
		}
	}
	for i, field := range []string{"ipam", "metaPlugins"} {
		if kind, found := unlisted(texts[i], named); found {
			return fmt.Errorf("%s: type %.64q: the namespace %s may name no other plugins than %.256q (annotation %s)", field, kind, s.GetNamespace(), list, v1.AnnotationAllowedPlugins)
		}
	}
	return nil
}

// types has a key for each type of a plugin in value, at any depth.
func types(value any) map[string]bool {
	out := map[string]bool{}
	var walk func(any)
	walk = func(value any) {
		switch v := value.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for key, e := range v {
				if kind, is := e.(string); is && strings.EqualFold(key, "type") {
					out[kind] = false
				}
				walk(e)
			}
		}
	}
	walk(value)
	return out
}

// unlisted is the type of a plugin, of those in value at any depth, that is not allowed.
func unlisted(value any, allowed map[string]bool) (kind string, found bool) {
	var inside []any
	switch v := value.(type) {
	case []any:
		inside = v
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if kind, is := v[key].(string); is && strings.EqualFold(key, "type") && !allowed[kind] {
				return kind, true
			}
			inside = append(inside, v[key])
		}
	}
	for _, e := range inside {
		if kind, found = unlisted(e, allowed); found {
			return kind, true
		}
	}
	return "", false
}
