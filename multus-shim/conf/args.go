// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sriovkit/sriovkit/multus-shim/annotation"
)

// Args are the CNI_ARGS of a call, in order, each key once.
type Args [][2]string

// ParseArgs reads "K=V;K=V". Of a repeated key the last value counts, at the
// place of the first.
func ParseArgs(s string) (Args, error) {
	var args Args
	for pair := range strings.SplitSeq(s, ";") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("CNI_ARGS: %q is not KEY=VALUE", pair)
		}
		args = args.With(key, value)
	}
	return args, nil
}

// String prints the arguments as CNI_ARGS.
func (a Args) String() string {
	pairs := make([]string, len(a))
	for i, kv := range a {
		pairs[i] = kv[0] + "=" + kv[1]
	}
	return strings.Join(pairs, ";")
}

// Get returns the value of key, "" when it is absent.
func (a Args) Get(key string) string {
	for _, kv := range a {
		if kv[0] == key {
			return kv[1]
		}
	}
	return ""
}

// With returns a copy of a with key set.
func (a Args) With(key, value string) Args {
	out := make(Args, 0, len(a)+1)
	out = append(out, a...)
	for i := range out {
		if out[i][0] == key {
			out[i][1] = value
			return out
		}
	}
	return append(out, [2]string{key, value})
}

// Without returns a copy of a that lacks the keys.
func (a Args) Without(keys ...string) Args {
	out := make(Args, 0, len(a))
next:
	for _, kv := range a {
		for _, key := range keys {
			if kv[0] == key {
				continue next
			}
		}
		out = append(out, kv)
	}
	return out
}

// Pod is what the runtime says about the pod in CNI_ARGS. All fields are empty
// for a container that is no pod.
type Pod struct {
	Namespace string // K8S_POD_NAMESPACE
	Name      string // K8S_POD_NAME
	UID       string // K8S_POD_UID; containerd and CRI-O pass it
}

// Pod returns the pod that the arguments name.
func (a Args) Pod() Pod {
	return Pod{Namespace: a.Get("K8S_POD_NAMESPACE"), Name: a.Get("K8S_POD_NAME"), UID: a.Get("K8S_POD_UID")}
}

func (p Pod) String() string { return p.Namespace + "/" + p.Name }

// Check refuses names that are none of Kubernetes objects: they become part of the
// paths of requests.
func (p Pod) Check() error {
	if p.Name == "" || p.Namespace == "" {
		return nil // no pod; nothing is asked about it
	}
	return errors.Join(annotation.CheckName("CNI_ARGS: K8S_POD_NAME", p.Name), annotation.CheckNamespace("CNI_ARGS: K8S_POD_NAMESPACE", p.Namespace))
}
