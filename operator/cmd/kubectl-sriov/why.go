// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sriovkit/sriovkit/operator/internal/diagnose"
	"github.com/sriovkit/sriovkit/operator/internal/inventory"
)

// why answers for each object, given as KIND/NAME or as a name that only one object has.
func (c *command) why(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("give an object: kubectl sriov why pod/NAME, policy/NAME or node/NAME")
	}
	inv, err := c.read(ctx)
	if err != nil {
		return err
	}
	var reports []*diagnose.Report
	for _, name := range objects(names) {
		r, err := c.answer(ctx, inv, name)
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	if c.json {
		return c.printJSON(reports)
	}
	c.unread(inv)
	for _, r := range reports {
		c.printReport(r)
	}
	return nil
}

// objects reads "pod NAME", which kubectl's own commands take, as pod/NAME.
func objects(names []string) []string {
	kind, known := kinds[names[0]]
	if !known || len(names) == 1 {
		return names
	}
	var out []string
	for _, name := range names[1:] {
		out = append(out, kind+"/"+name)
	}
	return out
}

func (c *command) printReport(r *diagnose.Report) {
	fmt.Fprintln(c, c.paint(bold, printable(r.About))+": "+printable(r.State))
	if len(r.Findings) == 0 {
		word := "nothing is missing"
		if len(r.Unread) > 0 {
			word = "nothing is missing, as far as this account may read"
		}
		fmt.Fprintln(c, "  "+c.paint(green, word))
	}
	for _, f := range r.Findings {
		fmt.Fprintf(c, "  %s: %s\n", c.paint(red, printable(f.Object)), printable(f.Problem))
		if f.Remedy != "" {
			fmt.Fprintln(c, "    -> "+printable(f.Remedy))
		}
	}
}

// kinds are the ways to write a kind; of a name alone it is empty.
var kinds = map[string]string{
	"":    "",
	"pod": "pod", "pods": "pod", "po": "pod",
	"policy": "policy", "sriovnetworknodepolicy": "policy", "sriovnetworknodepolicies": "policy",
	"node": "node", "nodes": "node", "no": "node",
}

func (c *command) answer(ctx context.Context, inv *inventory.Inventory, arg string) (*diagnose.Report, error) {
	kind, name, given := strings.Cut(arg, "/")
	if !given {
		kind, name = "", arg
	}
	kind, ok := kinds[kind]
	if !ok {
		return nil, fmt.Errorf("%q: want pod/NAME, policy/NAME or node/NAME", arg)
	}
	var found []*diagnose.Report
	var unknown []error // why there may be one after all
	if kind == "" || kind == "pod" {
		r, err := c.pod(ctx, inv, name)
		switch {
		case err == nil:
			found = append(found, r)
		case kind != "" || !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err):
			return nil, fmt.Errorf("pod %s in namespace %s: %w", name, c.namespace, err)
		case apierrors.IsForbidden(err):
			unknown = append(unknown, err)
		}
	}
	if kind == "" || kind == "policy" {
		for i := range inv.Policies {
			if p := &inv.Policies[i]; p.Name == name && (p.Namespace == inv.Namespace || !policyThere(inv, name)) {
				found = append(found, diagnose.Policy(inv, p))
			}
		}
	}
	if kind == "" && (inv.Node(name) != nil || inv.State(name) != nil) || kind == "node" {
		found = append(found, diagnose.Node(inv, name))
	}
	unread := inv.Unread["sriovnetworknodepolicies"]
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, fmt.Errorf("%s is the name of several: write pod/%[1]s, policy/%[1]s or node/%[1]s", name)
	case unread != "" && kind == "policy":
		return nil, fmt.Errorf("policy %s: %s", name, unread)
	case kind == "policy":
		return nil, fmt.Errorf("no SriovNetworkNodePolicy is called %s", name)
	}
	for _, plural := range []string{"sriovnetworknodepolicies", "nodes"} {
		if why := inv.Unread[plural]; why != "" {
			unknown = append(unknown, fmt.Errorf("%s: %s", plural, why))
		}
	}
	if kind == "" && len(unknown) > 0 {
		return nil, fmt.Errorf("nothing is called %s, as far as could be read: %w", name, errors.Join(unknown...))
	}
	return nil, fmt.Errorf("no pod in namespace %s, no policy and no node is called %s", c.namespace, name)
}

// policyThere reports whether the operator's namespace has a policy of that name.
func policyThere(inv *inventory.Inventory, name string) bool {
	for i := range inv.Policies {
		if p := &inv.Policies[i]; p.Name == name && p.Namespace == inv.Namespace {
			return true
		}
	}
	return false
}

func (c *command) pod(ctx context.Context, inv *inventory.Inventory, name string) (*diagnose.Report, error) {
	var p corev1.Pod
	if err := c.client.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, &p); err != nil {
		return nil, err
	}
	var events corev1.EventList
	if err := c.client.List(ctx, &events, client.InNamespace(c.namespace), client.MatchingFields{"involvedObject.uid": string(p.UID)}); err != nil {
		inv.Unread["events"] = "of the pod: " + err.Error()
	}
	return diagnose.Pod(inv, &p, events.Items), nil
}
