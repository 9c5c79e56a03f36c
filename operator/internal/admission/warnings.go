// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
)

// warningLimit of one answer. The API server drops what is longer than a screen.
const warningLimit = 8

// warnings collects what to tell whoever writes an object, each once, with the nodes it
// is about.
type warnings struct {
	order []string
	nodes map[string][]string
}

func (w *warnings) add(format string, args ...any) { w.of("", fmt.Sprintf(format, args...)) }

// of adds what is so on one node.
func (w *warnings) of(node, message string) {
	if w.nodes == nil {
		w.nodes = map[string][]string{}
	}
	if _, ok := w.nodes[message]; !ok {
		w.order = append(w.order, message)
	}
	w.nodes[message] = append(w.nodes[message], node)
}

func (w *warnings) list() []string {
	var out []string
	for i, message := range w.order {
		if i == warningLimit {
			return append(out, fmt.Sprintf("and %d more", len(w.order)-i))
		}
		nodes := w.nodes[message]
		switch {
		case nodes[0] == "":
		case len(nodes) == 1:
			message = "node " + nodes[0] + ": " + message
		default:
			message = fmt.Sprintf("node %s and %d more: %s", nodes[0], len(nodes)-1, message)
		}
		out = append(out, message)
	}
	return out
}

// join adds all of o.
func (w *warnings) join(o warnings) {
	for _, message := range o.order {
		for _, node := range o.nodes[message] {
			w.of(node, message)
		}
	}
}
