// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// paged answers as an API server does, in JSON that leaves out what is empty.
type paged struct {
	client.Reader
	t     *testing.T
	pages map[string]string // by continue token
	errs  map[string]error
	asked int
}

func (p *paged) List(_ context.Context, list client.ObjectList, options ...client.ListOption) error {
	p.asked++
	require.LessOrEqual(p.t, p.asked, len(p.pages)+len(p.errs), "asks for pages without end")
	o := (&client.ListOptions{}).ApplyOptions(options)
	if o.Limit == 0 {
		return json.Unmarshal([]byte(p.pages["all"]), list)
	}
	if err := p.errs[o.Continue]; err != nil {
		return err
	}
	return json.Unmarshal([]byte(p.pages[o.Continue]), list)
}

// Nothing of one page is on the next.
func TestPagesOfAList(t *testing.T) {
	p := &paged{t: t, pages: map[string]string{
		"":  `{"metadata":{"continue":"2"},"items":[{"metadata":{"name":"a","annotations":{"k":"v"}},"status":{"syncStatus":"Failed"}}]}`,
		"2": `{"metadata":{"continue":"3"},"items":[{"metadata":{"name":"b"}}]}`,
		"3": `{"metadata":{},"items":[{"metadata":{"name":"c"}}]}`,
	}}
	r := &reader{Reader: p, unread: map[string]string{}}
	var got []v1.SriovNetworkNodeState
	items := func(l *v1.SriovNetworkNodeStateList) []v1.SriovNetworkNodeState { return l.Items }
	require.NoError(t, list(t.Context(), r, "node states", &v1.SriovNetworkNodeStateList{}, &got, items))
	var says []string
	for _, s := range got {
		says = append(says, fmt.Sprint(s.Name, s.Annotations, s.Status.SyncStatus))
	}
	require.Equal(t, []string{"amap[k:v]Failed", "bmap[]", "cmap[]"}, says)
	require.Empty(t, r.unread)
}

// Pages that have expired meanwhile are read anew, as one. A kind that the API server cannot
// list is noted, and the rest is still read; nobody is told that an account may see nothing
// where it was not accepted at all.
func TestListsThatFail(t *testing.T) {
	t.Parallel()
	first := `{"metadata":{"continue":"2"},"items":[{"metadata":{"name":"a"}}]}`
	for name, tc := range map[string]struct {
		second error
		names  []string
		unread map[string]string
		err    string
	}{
		"expired": {second: apierrors.NewResourceExpired("old"), names: []string{"a", "b"}},
		"a webhook is away": {
			second: apierrors.NewInternalError(errors.New("conversion webhook")),
			unread: map[string]string{"states": "the API server answers: Internal error occurred: conversion webhook"},
		},
		"unknown account": {second: apierrors.NewUnauthorized("who?"), err: "list states: who?"},
		"no connection":   {second: errors.New("refused"), err: "list states: refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &paged{t: t, errs: map[string]error{"2": tc.second}, pages: map[string]string{
				"": first, "all": `{"metadata":{},"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}`,
			}}
			r := &reader{Reader: p, unread: map[string]string{}}
			var got []v1.SriovNetworkNodeState
			err := list(t.Context(), r, "states", &v1.SriovNetworkNodeStateList{}, &got, func(l *v1.SriovNetworkNodeStateList) []v1.SriovNetworkNodeState { return l.Items })
			if tc.err != "" {
				require.EqualError(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			var names []string
			for _, s := range got {
				names = append(names, s.Name)
			}
			require.Equal(t, tc.names, names)
			if tc.unread == nil {
				tc.unread = map[string]string{}
			}
			require.Equal(t, tc.unread, r.unread)
		})
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	inv := &Inventory{Prefix: "openshift.io"}
	asks := func(amount string) corev1.Container {
		return corev1.Container{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"openshift.io/nics": resource.MustParse(amount), "cpu": resource.MustParse("1")}}}
	}
	sidecar := asks("1")
	sidecar.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	for name, tc := range map[string]struct {
		before, containers []corev1.Container
		want               map[string]int64
	}{
		"none":                {nil, []corev1.Container{{}}, map[string]int64{}},
		"two containers":      {nil, []corev1.Container{asks("1"), asks("2")}, map[string]int64{"openshift.io/nics": 3}},
		"had before":          {[]corev1.Container{asks("1"), asks("1")}, []corev1.Container{asks("1")}, map[string]int64{"openshift.io/nics": 1}},
		"more before":         {[]corev1.Container{asks("3")}, []corev1.Container{asks("1")}, map[string]int64{"openshift.io/nics": 3}},
		"before alone":        {[]corev1.Container{asks("2")}, []corev1.Container{{}}, map[string]int64{"openshift.io/nics": 2}},
		"one that keeps on":   {[]corev1.Container{sidecar}, []corev1.Container{asks("1")}, map[string]int64{"openshift.io/nics": 2}},
		"beside one that was": {[]corev1.Container{sidecar, asks("2")}, []corev1.Container{asks("1")}, map[string]int64{"openshift.io/nics": 3}},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: tc.before, Containers: tc.containers}}
		require.Equal(t, tc.want, inv.Requests(p), name)
	}
}
