// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// networksLimit of one annotation. No pod has that many interfaces, and each name is looked up.
const networksLimit = 256

// selection is one network that a pod asks for.
type selection struct{ namespace, name string }

func (s selection) String() string { return s.namespace + "/" + s.name }

// selections reads the value of an annotation that selects networks, in either of its
// forms (https://github.com/k8snetworkplumbingwg/multi-net-spec, section 4): a JSON list
// of objects, or [namespace/]name[@interface] separated by commas. namespace is where
// names without one are. Whatever else the objects say is for the meta-plugin to judge.
func selections(value, namespace string) ([]selection, error) {
	if value == "" {
		return nil, nil
	}
	var out []selection
	if strings.ContainsAny(value, `[{"`) {
		var list []struct{ Name, Namespace string }
		if err := json.Unmarshal([]byte(value), &list); err != nil {
			return nil, fmt.Errorf("want a JSON list of networks: %w", err)
		}
		for _, e := range list {
			out = append(out, selection{e.Namespace, e.Name})
		}
	} else if n := strings.Count(value, ",") + 1; n > networksLimit {
		return nil, fmt.Errorf("%d networks, want at most %d", n, networksLimit)
	} else {
		for item := range strings.SplitSeq(value, ",") {
			name, _, _ := strings.Cut(strings.TrimSpace(item), "@")
			ns, rest, ok := strings.Cut(name, "/")
			if !ok {
				ns, rest = "", name
			}
			out = append(out, selection{ns, rest})
		}
	}
	if len(out) > networksLimit {
		return nil, fmt.Errorf("%d networks, want at most %d", len(out), networksLimit)
	}
	for i := range out {
		s := &out[i]
		if s.namespace == "" {
			s.namespace = namespace
		}
		for _, label := range []string{s.namespace, s.name} {
			if wrong := validation.IsDNS1123Label(label); len(wrong) > 0 {
				return nil, fmt.Errorf("network %d: %.64q: %s", i+1, label, wrong[0])
			}
		}
	}
	return out, nil
}
